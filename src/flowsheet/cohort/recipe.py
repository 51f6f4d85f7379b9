"""How the rows of an extract are made of the records, for the keys of what is stored."""

from __future__ import annotations

from typing import NamedTuple

from flowsheet import __version__
from flowsheet.cohort.catalogue import own_concepts_key
from flowsheet.cohort.checked_batches import BatchChecker
from flowsheet.cohort.compute_responses import ComputedResponses
from flowsheet.cohort.extract import MANIFEST_VERSION
from flowsheet.cohort.sources.base import Source
from flowsheet.config import CohortConfig
from flowsheet.plugins import plugin_code
from flowsheet.state.hashing import digest, file_digest


class Recipe(NamedTuple):
    """How rows are made of what a source has read."""

    checker: BatchChecker
    key: str
    """Digest of the release, the user's code and the options. What a worker with others builds is
    not used."""


def make_recipe(source: Source, config: CohortConfig, responses: ComputedResponses) -> Recipe:
    """How rows of the extract are made of what the source has read.

    Args:
        source: the source.
        config: the cohort.
        responses: of the cohort.
    """
    own_files = [file_digest(file) for file in source.own_files()]
    rows = describe_rows(source, config, responses)
    parts = [__version__, rows, own_files, config.max_rows_per_stay]
    return Recipe(BatchChecker(responses, config.max_rows_per_stay), digest(parts))


def describe_rows(
    source: Source, config: CohortConfig, responses: ComputedResponses
) -> dict[str, object]:
    """What the rows of an extract depend on beside the records and the policy, for keys.

    Args:
        source: the source.
        config: the cohort.
        responses: of the cohort.
    """
    return {
        "manifest_version": MANIFEST_VERSION,
        "source": config.source,
        "version": type(source).version,
        "options": source.options.model_dump(mode="json"),
        "responses": [responses.versions(), responses.describe()],
        **plugin_code(type(source), *responses.classes()),
        **own_concepts_key(),
    }
