# Serves one registered model: docker run ... flowsheet-serving NAME[@ALIAS]
#   docker build -f docker/serving.Dockerfile -t flowsheet-serving .
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
RUN pip install -c constraints.txt '.[s3]'

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

# LightGBM needs the OpenMP runtime.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1=12.* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/flowsheet --no-create-home flowsheet \
    && install -d -o flowsheet -g flowsheet /var/lib/flowsheet
COPY --from=build /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FLOWSHEET_HOME=/tmp/flowsheet \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
USER 10001:10001
WORKDIR /var/lib/flowsheet
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
# Loopback inside a container cannot be reached from outside, so it listens on all addresses of the container.
ENTRYPOINT ["flowsheet", "serve", "--host", "0.0.0.0", "--port", "8000"]
