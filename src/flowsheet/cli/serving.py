"""From words on the command line to a server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flowsheet.config import validate_config
from flowsheet.serving.settings import ServeConfig

_LIMITS = {
    "max_body_bytes": "body_bytes",
    "max_rows": "rows",
    "max_stays": "stays",
    "max_steps": "steps",
}


def serve(model: str, options: Mapping[str, Any]) -> None:
    """Serve ``NAME`` or ``NAME@ALIAS`` until told to stop; options that are None keep their
    defaults.

    Raises:
        FlowsheetError: an option is out of bounds, the model does not load, or the port is taken.
    """
    name, _, alias = model.partition("@")
    told = {key: value for key, value in options.items() if value is not None}
    limits = {ours: told.pop(theirs) for theirs, ours in _LIMITS.items() if theirs in told}
    about = {"name": name, **({"alias": alias} if alias else {}), **told, "limits": limits}
    config = validate_config(ServeConfig, about, "flowsheet serve")

    # Read when polars is imported. Requests are small: waking further threads takes longer than their work.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from flowsheet.serving.server import serve as run

    run(config)
