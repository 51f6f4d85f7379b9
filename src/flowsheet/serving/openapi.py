"""The format of a request and its answer: for OpenAPI, and as a page without external resources."""

from __future__ import annotations

from html import escape
from typing import Any, get_args

import orjson
import polars as pl

from flowsheet.cohort.schema import TABLES, TIME
from flowsheet.prediction.explanations.concepts import ConceptKind
from flowsheet.prediction.input_rows import example_tables
from flowsheet.prediction.parsed_request import REQUIRED_COLUMNS
from flowsheet.serving.explainer import DEFAULT_TOP, MAX_TOP

_JSON_TYPES: dict[pl.DataType, dict[str, Any]] = {
    pl.Int64(): {"type": "integer", "format": "int64"},
    pl.Float64(): {"type": "number"},
    pl.String(): {"type": "string"},
    pl.Boolean(): {"type": "boolean"},
    TIME: {"type": "string", "description": "ISO 8601 without a time zone"},
}


def request_example() -> dict[str, list[dict[str, Any]]]:
    """Two invented stays as records, nulls left out."""
    example: dict[str, list[dict[str, Any]]] = {}
    tables = example_tables()
    for name in TABLES:
        rows: pl.DataFrame = getattr(tables, name)
        text = rows.with_columns(pl.col(TIME).dt.to_string("iso:strict"))
        records = [_without_nulls(record) for record in text.iter_rows(named=True)]
        if records:
            example[name] = records
    return example


def _without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def _record_schema(table: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _JSON_TYPES[kind] for name, kind in TABLES[table].items()},
        "required": list(REQUIRED_COLUMNS[table]),
        "additionalProperties": False,
    }


def _table_schema(table: str) -> dict[str, Any]:
    """A list of records, or an object of columns."""
    columns = {
        name: {"type": "array", "items": _JSON_TYPES[kind]} for name, kind in TABLES[table].items()
    }
    as_records = {"type": "array", "items": _record_schema(table)}
    as_columns = {"type": "object", "properties": columns, "additionalProperties": False}
    return {"oneOf": [as_records, as_columns]}


def _json_content(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema, **more}}}


_REQUEST_SCHEMA = {
    "type": "object",
    "properties": {name: _table_schema(name) for name in TABLES},
    "required": ["stays"],
    "additionalProperties": False,
}
REQUEST = {
    "requestBody": {
        "required": True,
        **_json_content(_REQUEST_SCHEMA, example=request_example()),
    }
}

_STAY = {
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
    "alert": {
        "type": "array",
        "items": {"type": "boolean"},
        "description": "risk >= threshold; left out where the model has none",
    },
    "raised": {
        "type": "array",
        "items": {"type": "boolean"},
        "description": "an alert that the model's alert policy does not silence after the "
        "stay's earlier ones; left out where the model has none",
    },
}
_MODEL = {"name": {"type": "string"}, "version": {"type": "integer"}, "alias": {"type": "string"}}
_ANSWER_SCHEMA = {
    "type": "object",
    "properties": {
        "model": {"type": "object", "properties": _MODEL},
        "threshold": {
            "type": ["number", "null"],
            "description": "decision threshold, fixed when the model was trained",
        },
        "stays": {"type": "array", "items": {"type": "object", "properties": _STAY}},
    },
}
ANSWER = {
    "description": "A risk for every step of every stay, in the order sent",
    **_json_content(_ANSWER_SCHEMA),
}

EXPLAIN_PARAMETERS = [
    {
        "name": "steps",
        "in": "query",
        "description": "the last step of each stay, or all steps",
        "schema": {"type": "string", "enum": ["last", "all"], "default": "last"},
    },
    {
        "name": "top",
        "in": "query",
        "description": "contributions that are listed for each step, the largest ones",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": DEFAULT_TOP},
    },
]
_CONTRIBUTION = {
    "concept": {"type": "string", "description": "a name of the catalogue, or of a stay's column"},
    "kind": {"type": "string", "enum": list(get_args(ConceptKind))},
    "label": {"type": "string"},
    "contribution": {"type": "number", "description": "log odds"},
    "value": {"type": ["number", "null"], "description": "the recorded value or dose"},
    "unit": {"type": ["string", "null"]},
    "hours_ago": {"type": ["number", "null"]},
    "text": {"type": "string", "description": "the fact and its contribution in words"},
}
_EXPLAINED_STEP = {
    "step": {"type": "integer"},
    "time": {"type": "string"},
    "risk": {"type": "number", "minimum": 0, "maximum": 1},
    "log_odds": {"type": "number", "description": "baseline + all contributions + others"},
    "baseline": {"type": "number"},
    "contributions": {"type": "array", "items": {"type": "object", "properties": _CONTRIBUTION}},
    "others": {"type": "number", "description": "the contributions that are not listed, together"},
}
_EXPLAINED_STAY = {
    "stay_id": {"type": "integer"},
    "explanations": {
        "type": "array",
        "items": {"type": "object", "properties": _EXPLAINED_STEP},
    },
}
EXPLANATION = {
    "description": "What adds to the log odds of each explained step, the largest first",
    **_json_content(
        {
            "type": "object",
            "properties": {
                "model": {"type": "object", "properties": _MODEL},
                "stays": {
                    "type": "array",
                    "items": {"type": "object", "properties": _EXPLAINED_STAY},
                },
            },
        }
    ),
}

_PROBLEM = {
    **{
        name: {"type": ["string", "null"]}
        for name in ("table", "column", "rule", "value", "message")
    },
    "row": {"type": ["integer", "null"]},
}
_REJECTED_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "message": {"type": "string"},
        "problem_count": {"type": "integer"},
        "problems": {"type": "array", "items": {"type": "object", "properties": _PROBLEM}},
    },
}
REJECTED = {"description": "What is wrong, and where", **_json_content(_REJECTED_SCHEMA)}

_PAGES = {
    "POST /predict": "a risk for every step of every stay that is sent",
    "POST /explain": "why: what adds the most to the log odds of each stay's last step",
    "GET /health": "whether the server runs, and whether its model is the one of the alias",
    "GET /ready": "200 if a request would be accepted now",
    "GET /version": "the release and the versions of the models",
    "GET /metrics": "for Prometheus",
    "GET /openapi.json": "the API for programs",
}


def docs_page(served: str) -> str:
    """The page that describes requests; ``served`` names the models that answer them."""
    pages = "".join(
        f"<dt><code>{escape(page)}</code><dd>{escape(purpose)}" for page, purpose in _PAGES.items()
    )
    tables = "".join(
        f"<dt><code>{table}</code><dd>{', '.join(_mark_required(table))}" for table in TABLES
    )
    example = escape(orjson.dumps(request_example(), option=orjson.OPT_INDENT_2).decode())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Flowsheet</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<style>body{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;padding:0 1em}"
        "pre{background:#f4f4f4;padding:1em;overflow:auto}"
        "dd{margin-left:1.5em;overflow-wrap:anywhere}</style>"
        f"<h1>Flowsheet</h1><p>This server answers with {escape(served)}.</p>"
        f"<dl>{pages}</dl><h2>Tables of a request</h2>"
        "<p>Columns in bold are required. A table is a list of rows, or an object of columns. "
        "Times are ISO 8601 text without a time zone.</p>"
        f"<dl>{tables}</dl><h2>An example</h2><pre>{example}</pre></html>"
    )


def _mark_required(table: str) -> list[str]:
    """The table's columns as HTML."""
    required = REQUIRED_COLUMNS[table]
    return [f"<b>{column}</b>" if column in required else column for column in TABLES[table]]
