# The MLflow tracking server. MLFLOW_BACKEND_STORE_URI is its database, MLFLOW_SERVER_ALLOWED_HOSTS its host names.
#   docker build -f docker/mlflow.Dockerfile -t flowsheet-mlflow .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
# boto3: MLFLOW_ARTIFACTS_DESTINATION=s3://BUCKET/NAME
RUN pip install -c constraints.txt mlflow 'psycopg[binary]' boto3
# The release, as the context has no git: --build-arg SETUPTOOLS_SCM_PRETEND_VERSION=0.2.0
ARG SETUPTOOLS_SCM_PRETEND_VERSION
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
COPY flows flows
# MLflow answers pages of other ports; Flowsheet's own application around it does not.
RUN pip install --no-deps .

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

RUN useradd --uid 10001 --user-group --home-dir /var/lib/mlflow --no-create-home mlflow \
    && install -d -o mlflow -g mlflow /var/lib/mlflow
COPY --from=build /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MLFLOW_ARTIFACTS_DESTINATION=/var/lib/mlflow/artifacts \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
USER 10001:10001
WORKDIR /var/lib/mlflow
VOLUME /var/lib/mlflow
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2", "--app-name", "flowsheet"]
