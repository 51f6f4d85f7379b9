"""The responses that a cohort asks for, computed from the validated tables of each batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from flowsheet.cohort import checks
from flowsheet.cohort.completeness import find_gaps
from flowsheet.cohort.responses.base import RESPONSES, Records, Response, find_episodes
from flowsheet.cohort.schema import LABEL, Tables
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.writer import sort_rows
from flowsheet.config import CohortConfig, validate_config
from flowsheet.errors import CheckFailed, UsageError

Counts = Mapping[str, int]


class ComputedResponses:
    """The responses of a cohort beside those that its source gives."""

    def __init__(self, responses: Mapping[str, Response]) -> None:
        self._responses = dict(responses)

    def describe(self) -> dict[str, dict[str, Any]]:
        """The options of each response, for the manifest."""
        return {name: r.options.model_dump(mode="json") for name, r in self._responses.items()}

    def versions(self) -> dict[str, int]:
        """The version of each response, for the key of a cached extract."""
        return {name: response.version for name, response in self._responses.items()}

    def classes(self) -> list[type[Response]]:
        """The classes, of which plug-ins are part of the key of a cached extract."""
        return [type(response) for response in self._responses.values()]

    def add_to(self, tables: Tables) -> Tables:
        """The tables with the episodes of every response.

        Raises:
            CheckFailed: a response gives episodes that break the contract.
        """
        records = Records(tables.stays, tables.events, tables.treatments)
        parts = [tables.episodes]
        for name, response in self._responses.items():
            found = find_episodes(name, response, records)
            _check_contract(name, found, tables.stays)
            parts.append(found)
        if len(parts) == 1:
            return tables
        return replace(tables, episodes=sort_rows("episodes", pl.concat(parts)))

    def find_gaps(
        self, rows: Counts, variables: set[str], counts: Counts, stay_columns: set[str]
    ) -> dict[str, list[str]]:
        """What the records lack that a response needs, by response; arguments as in ``find_gaps``.

        Args:
            rows: rows of each table.
            variables: the variables with a value.
            counts: the counts of the source.
            stay_columns: the columns of stays with a value.
        """
        gaps = {
            name: find_gaps(response.needs(), rows, variables, counts, stay_columns)
            for name, response in self._responses.items()
        }
        return {name: found for name, found in gaps.items() if found}


def make_responses(config: CohortConfig, source: Source) -> ComputedResponses:
    """The responses that a cohort names, with validated options.

    Raises:
        UsageError: there is no such response or option (the message suggests the nearest name), or
            the source gives the response itself.
    """
    responses = {}
    for name, options in sorted(config.responses.items()):
        if name in source.responses or name == LABEL:
            raise UsageError(
                f"the source {config.source} gives the response {name!r} itself",
                where=f"cohort.responses.{name}",
                todo="remove it; options of the source's own definition are in cohort.options",
            )
        response = RESPONSES.get(name)
        prefix = ("cohort", "responses", name)
        validated = validate_config(response.Options, options, f"response {name}", prefix=prefix)
        made = response(validated)
        records = [" or ".join(counts) for counts in made.needs().counts.values()]
        if records:
            raise UsageError(
                f"the response {name!r} cannot be computed from the tables of the source "
                f"{config.source}: it needs {' and '.join(records)}, which they lack",
                where=f"cohort.responses.{name}",
                todo="remove it; mimic3, mimic4 and meds read cultures and antibiotics and give it "
                "with cohort.options.sepsis3",
            )
        responses[name] = made
    return ComputedResponses(responses)


def _check_contract(name: str, episodes: pl.DataFrame, stays: pl.DataFrame) -> None:
    failures = checks.find_value_failures("episodes", episodes, stays)
    if failures.is_empty():
        return
    first = failures.row(0, named=True)
    raise CheckFailed(
        f"the response {name!r} gives {failures.height:,} episodes that break the contract, such "
        f"as {first['key']}: {first['column']} = {first['value']} ({first['rule']})",
        where=f"the response {name}",
        todo="correct its find_episodes; flowsheet.testing.responses has tests for it",
    )
