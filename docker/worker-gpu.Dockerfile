# A Prefect worker of the pool `gpu`. The host needs NVIDIA's driver and container toolkit; PyTorch's wheel includes
# the CUDA libraries it was built with.
#   docker build -f docker/worker-gpu.Dockerfile -t flowsheet-worker-gpu .
FROM nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2 AS build

# Index of PyTorch's wheels for the host's CUDA version; if empty, pip's default index.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.12=3.12.* python3.12-venv=3.12.* \
    && rm -rf /var/lib/apt/lists/* \
    && python3.12 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
# The release, as the context has no git: --build-arg SETUPTOOLS_SCM_PRETEND_VERSION=0.2.0
ARG SETUPTOOLS_SCM_PRETEND_VERSION
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
COPY flows flows
RUN pip install -c constraints.txt '.[postgres,s3]'

FROM nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2

RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1=14.* python3.12=3.12.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/flowsheet --no-create-home flowsheet \
    && install -d -o flowsheet -g flowsheet /var/lib/flowsheet
COPY --from=build /opt/venv /opt/venv
COPY prefect.yaml automations.yaml /opt/flowsheet/
COPY conf /opt/flowsheet/conf
COPY flows /opt/flowsheet/flows

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    FLOWSHEET_HOME=/var/lib/flowsheet/state \
    FLOWSHEET_CONF=/opt/flowsheet/conf \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_WORKER_WEBSERVER_HOST=127.0.0.1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_CLIENT_MAX_RETRIES=6 \
    PREFECT_CLIENT_RETRY_EXTRA_CODES=500,504 \
    DO_NOT_TRACK=true
USER 10001:10001
WORKDIR /opt/flowsheet
VOLUME /var/lib/flowsheet
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
CMD ["flowsheet", "worker", "gpu", "--healthcheck"]
