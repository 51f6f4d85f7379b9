"""MLflow's server without answers to foreign web pages.

MLflow itself rejects foreign hosts, and what other sites' pages would change, but lets pages of
every other port of this machine read and write. Further names of the server are listed in
``FLOWSHEET_ALLOWED_HOSTS``.
"""

from __future__ import annotations

from mlflow.server.fastapi_app import app as mlflow_app

from flowsheet.own_origin import OwnOriginOnly, declared_hosts

app = OwnOriginOnly(mlflow_app, declared_hosts())
