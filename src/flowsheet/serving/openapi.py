"""What a request and its answer look like: for OpenAPI, and as a page that loads nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson
import polars as pl

from flowsheet.cohort.schema import TABLES, TIME
from flowsheet.prediction.input_rows import example_tables
from flowsheet.prediction.request_parser import NEEDED

_KINDS: dict[pl.DataType, dict[str, Any]] = {
    pl.Int64(): {"type": "integer", "format": "int64"},
    pl.Float64(): {"type": "number"},
    pl.String(): {"type": "string"},
    TIME: {"type": "string", "description": "ISO 8601 without a time zone"},
}


def _record(table: str) -> dict[str, Any]:
    columns = {name: _KINDS[kind] for name, kind in TABLES[table].items()}
    return {
        "type": "object",
        "properties": columns,
        "required": list(NEEDED[table]),
        "additionalProperties": False,
    }


def _table(table: str) -> dict[str, Any]:
    lists = {
        name: {"type": "array", "items": kind}
        for name, kind in _record(table)["properties"].items()
    }
    columns = {"type": "object", "properties": lists, "additionalProperties": False}
    return {"oneOf": [{"type": "array", "items": _record(table)}, columns]}


def request_example() -> dict[str, list[dict[str, Any]]]:
    """Two invented stays as records, nulls left out."""
    tables = {name: getattr(example_tables(), name) for name in TABLES}
    text = {
        name: frame.with_columns(pl.col(TIME).dt.to_string("iso:strict"))
        for name, frame in tables.items()
    }
    return {
        name: [
            {k: v for k, v in row.items() if v is not None} for row in frame.iter_rows(named=True)
        ]
        for name, frame in text.items()
        if frame.height
    }


def _content(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema, **more}}}


REQUEST = {
    "requestBody": {
        "required": True,
        **_content(
            {
                "type": "object",
                "properties": {name: _table(name) for name in TABLES},
                "required": ["stays"],
                "additionalProperties": False,
            },
            example=request_example(),
        ),
    }
}
_SERIES = {
    "stay_id": {"type": "integer"},
    "step": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "k, counted from 1 at admission",
    },
    "time": {
        "type": "array",
        "items": {"type": "string"},
        "description": "when the prediction is made",
    },
    "risk": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
}
_MODEL = {"name": {"type": "string"}, "version": {"type": "integer"}, "alias": {"type": "string"}}
ANSWER = {
    "description": "A risk for every step of every stay, in the order sent",
    **_content(
        {
            "type": "object",
            "properties": {
                "model": {"type": "object", "properties": _MODEL},
                "stays": {"type": "array", "items": {"type": "object", "properties": _SERIES}},
            },
        }
    ),
}
_PROBLEM = {
    name: {"type": ["string", "null"]} for name in ("table", "column", "rule", "value", "message")
}
REFUSAL = {
    "description": "What is wrong, and where",
    **_content(
        {
            "type": "object",
            "properties": {
                "error": {"type": "string"},
                "message": {"type": "string"},
                "problem_count": {"type": "integer"},
                "problems": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {**_PROBLEM, "row": {"type": ["integer", "null"]}},
                    },
                },
            },
        }
    ),
}

_PAGES = {
    "POST /predict": "a risk for every step of every stay that is sent",
    "GET /health": "whether the server lives, and whether its model is the one that the registry names",
    "GET /ready": "200 when a request would be taken now",
    "GET /version": "the release and the versions of the models",
    "GET /metrics": "for Prometheus",
    "GET /openapi.json": "all this for programs",
}


def _page() -> str:
    pages = "".join(
        f"<dt><code>{escape(name)}</code><dd>{escape(what)}" for name, what in _PAGES.items()
    )
    columns = "".join(
        f"<dt><code>{name}</code><dd>"
        + ", ".join(f"<b>{c}</b>" if c in NEEDED[name] else c for c in TABLES[name])
        for name in TABLES
    )
    sent = escape(orjson.dumps(request_example(), option=orjson.OPT_INDENT_2).decode())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Flowsheet</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;padding:0 1em}"
        "pre{background:#f4f4f4;padding:1em;overflow:auto}</style>"
        f"<h1>Flowsheet</h1><dl>{pages}</dl><h2>Tables of a request</h2><p>Columns that a row must fill are bold. "
        "A table is a list of rows, or an object of columns. Times are ISO 8601 text without a time zone.</p>"
        f"<dl>{columns}</dl><h2>An example</h2><pre>{sent}</pre></html>"
    )


PAGE = _page()
