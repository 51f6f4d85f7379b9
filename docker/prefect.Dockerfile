# The Prefect server. PREFECT_SERVER_DATABASE_CONNECTION_URL is its database.
#   docker build -f docker/prefect.Dockerfile -t flowsheet-prefect .
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt prefect
# The release, as the context has no git: --build-arg SETUPTOOLS_SCM_PRETEND_VERSION=0.2.0
ARG SETUPTOOLS_SCM_PRETEND_VERSION
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
COPY flows flows
# Prefect answers pages of any origin; Flowsheet's own application around it does not.
RUN pip install --no-deps . && install -D -m 0644 flows/prefect_app.py /opt/venv/flows/prefect_app.py

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

RUN useradd --uid 10001 --user-group --home-dir /var/lib/prefect --no-create-home prefect \
    && install -d -o prefect -g prefect /var/lib/prefect
COPY --from=build /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PREFECT_HOME=/var/lib/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=true
USER 10001:10001
WORKDIR /var/lib/prefect
EXPOSE 4200
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:4200/api/health', timeout=4)"]
CMD ["uvicorn", "--app-dir", "/opt/venv/flows", "prefect_app:app", "--host", "0.0.0.0", "--port", "4200", "--log-level", "warning"]
