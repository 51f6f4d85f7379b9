"""The outcome in words, and the inputs that are a part of its definition (``outcomes.yaml``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import SourceEntry
from flowsheet.cohort.responses.base import RESPONSES
from flowsheet.cohort.sepsis3 import SEPSIS, Sepsis3Options
from flowsheet.cohort.sources.base import SOURCES
from flowsheet.errors import UsageError
from flowsheet.evaluation.study.facts import Outcome, Overlap
from flowsheet.windows.sequences import Feature

RECORDED = "recorded"
"""The definition of sources that have none of their own."""
SEPSIS3 = "sepsis3"
MAX_DRUGS_NAMED = 6
"""Longer lists of drugs are shown as a number and their group."""


@lru_cache(maxsize=1)
def load_definitions() -> dict[str, dict[str, Any]]:
    """The definitions by name, as in the file."""
    text = (files("flowsheet.evaluation.study") / "outcomes.yaml").read_text(encoding="utf-8")
    definitions: dict[str, dict[str, Any]] = yaml.safe_load(text)["definitions"]
    return definitions


Computed = Mapping[str, Mapping[str, Any]]
"""{response that was computed from the tables: its options}, as in the manifest."""


def describe_outcome(
    source: SourceEntry, response: str = SEPSIS, computed: Computed = MappingProxyType({})
) -> Outcome:
    """A response of an extract in words, with the options that differ from their defaults."""
    definition = _find_definition(source, response, computed)
    options, defaults = _collect_options(source, definition, response, computed)
    sentences = [
        _choose_sentence(sentence, options).format(source=source.name, **_as_texts(options))
        for sentence in definition["sentences"]
    ]
    return Outcome(
        title=definition["title"],
        is_computed=definition is not load_definitions()[RECORDED],
        sentences=tuple(sentence for sentence in sentences if sentence),
        changed_options=tuple(
            (name, _as_text(defaults[name]), _as_text(value))
            for name, value in options.items()
            if name in defaults and value != defaults[name]
        ),
    )


def find_overlap(
    source: SourceEntry,
    features: Sequence[Feature],
    response: str = SEPSIS,
    computed: Computed = MappingProxyType({}),
) -> tuple[Overlap, ...]:
    """The inputs that are a part of the outcome's definition, by part.

    Args:
        source: of the extract.
        features: the inputs.
        response: that is predicted.
        computed: the responses that were computed from the tables.
    """
    definition = _find_definition(source, response, computed)
    options, _ = _collect_options(source, definition, response, computed)
    variables = {f.source for f in features if f.kind in {"value", "missing", "since"}}
    drugs = {f.source for f in features if f.kind == "treatment"}
    inputs_by_part: dict[str, dict[str, None]] = {}
    score = str(options.get("score", "sofa"))
    for part in (*definition.get("parts", ()), *definition.get(score, ())):
        found = [*_find_variables(part, variables), *_find_drugs(part, options, drugs)]
        inputs_by_part.setdefault(part["part"], {}).update(dict.fromkeys(found))
    return tuple(
        Overlap(part=name, inputs=tuple(inputs))
        for name, inputs in inputs_by_part.items()
        if inputs
    )


def _find_definition(source: SourceEntry, response: str, computed: Computed) -> dict[str, Any]:
    definitions = load_definitions()
    if response in computed:
        return definitions.get(response) or _define_plugin(response)
    if response != SEPSIS:
        return definitions[RECORDED]
    if options := source.options.get(SEPSIS3):
        return definitions[options.get("definition", SEPSIS3)]
    return definitions.get(source.name, definitions[RECORDED])


def _define_plugin(response: str) -> dict[str, Any]:
    """The definition of a response that the file does not have: what its class says."""
    found = RESPONSES.get(response)
    sentence = " ".join((found.__doc__ or response).split("\n\n")[0].split())
    return {"title": found.words.name.capitalize(), "sentences": [sentence.replace("{", "(")]}


def _collect_options(
    source: SourceEntry, definition: Mapping[str, Any], response: str, computed: Computed
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recorded options of the definition, filled with defaults; and the defaults.

    Args:
        source: of the extract.
        definition: of the response.
        response: that is predicted.
        computed: the responses that were computed from the tables.
    """
    if response in computed:
        defaults = RESPONSES.get(response).Options().model_dump(mode="json")
        return defaults | dict(computed[response]), defaults
    if definition.get("nested"):
        defaults = Sepsis3Options().model_dump(mode="json")
        return defaults | source.options[definition["nested"]], defaults
    names = definition.get("options", ())
    if not names:
        return {}, {}
    try:
        defaults = SOURCES.get(source.name).Options().model_dump(mode="json")
    except UsageError:  # the extract was made by a plug-in that is not installed here
        defaults = {}
    selected = {name: defaults[name] for name in names if name in defaults}
    recorded = {name: source.options[name] for name in names if name in source.options}
    return selected | recorded, selected


def _choose_sentence(sentence: str | Mapping[str, str], options: Mapping[str, Any]) -> str:
    """A sentence, or the one of several that an option chooses; empty where none is for it."""
    if isinstance(sentence, str):
        return sentence
    return sentence.get(str(options.get(sentence["option"])), sentence.get("otherwise", ""))


def _as_texts(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: _as_text(value) for name, value in options.items()}


def _as_text(value: Any) -> str:
    """A value of an option in a sentence.

    >>> _as_text(24.0), _as_text(["antibiotic", "antifungal"])
    ('24', 'antibiotic, antifungal')
    """
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return "none" if value is None else str(value)


def _find_variables(part: Mapping[str, Any], available: set[str]) -> Iterator[str]:
    known = catalogue.variables()
    for name in part.get("variables", ()):
        if name in available:
            yield known[name].label if name in known else name


def _find_drugs(
    part: Mapping[str, Any], options: Mapping[str, Any], available: set[str]
) -> Iterator[str]:
    """Named drugs, and groups of drugs: each drug, or their number where there are many."""
    known = catalogue.drugs()
    named = [name for name in part.get("drugs", ()) if name in available]
    yield from (known[name].label for name in named if name in known)
    option = part.get("groups_option")
    for group in options.get(option, ()) if option else part.get("groups", ()):
        of_group = {name for name in known if known[name].group == group}
        drugs = [name for name in known if name in of_group & available and name not in named]
        if len(drugs) > MAX_DRUGS_NAMED:
            yield f"{len(drugs)} drugs of the group {group}"
        else:
            yield from (known[name].label for name in drugs)
