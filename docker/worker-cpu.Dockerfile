# The command line and a Prefect worker of the pool `cpu`. The build context is the root of the repository.
#   docker build -f docker/worker-cpu.Dockerfile -t flowsheet-worker-cpu .
#   docker run --rm -v flowsheet-home:/var/lib/flowsheet flowsheet-worker-cpu flowsheet run demo
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build

# Index of PyTorch's CPU wheels, a tenth of the size of the CUDA wheels; if empty, pip's default index.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
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

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

# LightGBM needs the OpenMP runtime.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1=12.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/flowsheet --no-create-home flowsheet \
    && install -d -o flowsheet -g flowsheet /var/lib/flowsheet
COPY --from=build /opt/venv /opt/venv
COPY prefect.yaml automations.yaml /opt/flowsheet/
COPY conf /opt/flowsheet/conf
COPY flows /opt/flowsheet/flows

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
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
CMD ["flowsheet", "worker", "cpu", "--healthcheck"]
