"""MLflow's server without answers to foreign web pages.

MLflow itself rejects foreign hosts, and what other sites' pages would change, but lets pages of
every other port of this machine read and write.
"""

from __future__ import annotations

from mlflow.server.fastapi_app import app as mlflow_app

from flowsheet.own_origin import OwnOriginOnly

app = OwnOriginOnly(mlflow_app)
