"""The Prefect server of the Docker image: web pages of other origins get nothing from it.

``uvicorn --app-dir flows prefect_app:app``; further names of the server are listed in
``FLOWSHEET_ALLOWED_HOSTS``.
"""

from __future__ import annotations

from prefect.server.api.server import create_app

from flowsheet.own_origin import OwnOriginOnly, declared_hosts

app = OwnOriginOnly(create_app(final=True), declared_hosts())
