"""Names of registered models, read from the SQLite file without MLflow: fast enough to complete."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from flowsheet.state.home import home_path

_REFERENCES = """
SELECT name FROM registered_models
UNION SELECT name || '/' || version FROM model_versions WHERE current_stage != 'Deleted_Internal'
UNION SELECT name || '@' || alias FROM registered_model_aliases
"""


def list_references() -> list[str]:
    """``NAME``, ``NAME/VERSION`` and ``NAME@ALIAS`` of all registered models, in this order.

    None if another tracking server is configured, or nothing is registered. Nothing is created.
    """
    database = home_path() / "mlflow" / "mlflow.db"
    if os.environ.get("MLFLOW_TRACKING_URI") or not database.is_file():
        return []
    address = f"file:{database}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        return sorted(str(name) for (name,) in connection.execute(_REFERENCES))
