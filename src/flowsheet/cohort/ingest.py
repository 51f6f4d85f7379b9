"""Ingest: raw records become a validated extract, or an error that lists what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowsheet.cohort import checks
from flowsheet.cohort.agreement import compare_definitions
from flowsheet.cohort.checked_batches import CheckedBatch
from flowsheet.cohort.completeness import (
    Needs,
    find_core_gaps,
    find_gaps,
    find_implausible,
    find_late,
    find_losses,
    find_unknown_doses,
    find_unknown_units,
    find_warnings,
)
from flowsheet.cohort.compute_responses import ComputedResponses, make_responses
from flowsheet.cohort.divided import BuildGroups, DividedSource, collect_pieces
from flowsheet.cohort.erasure import ErasureFilter
from flowsheet.cohort.extract import AgreementEntry, Extract, Provenance, SourceEntry
from flowsheet.cohort.quarantine import ASCENDING
from flowsheet.cohort.recipe import Recipe, make_recipe
from flowsheet.cohort.remote_extracts import local_extract
from flowsheet.cohort.rules import RULE_HINTS
from flowsheet.cohort.sepsis3 import SEPSIS
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.spill import spill_folder
from flowsheet.cohort.validation_counts import ValidationCounts
from flowsheet.cohort.writer import ExtractWriter
from flowsheet.config import CohortConfig, Policy, validate_config
from flowsheet.config.overrides import absolute_location, path_exists
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError, did_you_mean
from flowsheet.state.capacity import check_disk_space
from flowsheet.state.erasures import ErasedIds
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.publish import publish
from flowsheet.typing import Progress

_MAX_EXAMPLES = 20
"""Failures shown in an error."""


def make_source(config: CohortConfig, *, with_records: bool = True) -> Source:
    """The source that a cohort names, with validated options; nothing is read yet.

    Without records, on a machine that need not have them, it only builds batches of what another
    process has read.

    Raises:
        UsageError: a source, option or rule does not exist (the message suggests the nearest
            name), or the records are not at the cohort's path.
    """
    source = SOURCES.get(config.source)
    options = validate_config(
        source.Options, config.options, f"cohort {config.name}", prefix=("cohort", "options")
    )
    known = checks.rule_names() | {ASCENDING, *source.rules}
    for rule in config.quarantine.rules.keys() - known:
        what = f"cohort.quarantine.rules names {rule!r}, which is not a rule"
        raise UsageError(what, todo=did_you_mean(rule, known))
    needs_path = with_records and source.needs_path
    return source(_records_path(config, source) if needs_path else None, options)


def _records_path(config: CohortConfig, source: type[Source]) -> Path:
    if not config.path:
        what = f"the path of the records of cohort {config.name!r} is not specified"
        raise UsageError(what, todo="specify cohort.path=FOLDER_OR_FILE")
    location = absolute_location(config.path)
    if not isinstance(location, Path):
        return _copy_of_remote(location, source, config)
    path = location
    if not path_exists(path):
        raise UsageError("the records do not exist", where=str(path), todo="fix cohort.path")
    return path


def _copy_of_remote(location: RemoteFolder, source: type[Source], config: CohortConfig) -> Path:
    if not source.reads_extracts:
        raise UsageError(
            f"the source {config.source!r} reads raw records from local files only: nothing in an "
            "object store says whether they are complete",
            where=location.url,
            todo="copy them to a local disk and set cohort.path to that; extracts are read from "
            "object stores (cohort.source=extract)",
        )
    return local_extract(location)


def ingest(
    source: Source,
    config: CohortConfig,
    target: Path,
    progress: Progress,
    build_groups: BuildGroups | None = None,
) -> Extract:
    """Read a source batch by batch, validate every row, and publish the extract atomically.

    An extract that already exists at ``target`` is replaced only once the new one is complete.
    Subjects that were erased from the state folder are left out.

    Args:
        source: The source to read.
        config: The cohort, with its quarantine policy.
        target: The folder of the extract.
        progress: Called with a line of text after each batch.
        build_groups: Has other processes build batches, where the source can be divided; the
            extract is the same.

    Raises:
        CheckFailed: the records cannot be read, a rule whose policy is ``reject`` is broken,
            more than the allowed share of a table's rows had to be quarantined, or the disk has no
            room for the extract.
        FlowsheetError: the disk is full or not writable.
    """
    check_disk_space(
        f"the extract of the cohort {config.name}",
        source.estimate_bytes(),
        target,
        "ingest a part of the stays, or write it to a larger disk (FLOWSHEET_HOME, or --out)",
    )
    counts = ValidationCounts()
    responses = make_responses(config, source)
    recipe = make_recipe(source, config, responses)
    erasure = ErasureFilter(ErasedIds.load().find)
    first_onsets = []
    try:
        with publish(target) as folder, ExtractWriter(folder) as writer:
            for batch in _check_batches(source, recipe, build_groups):
                counts.add(batch.counts)
                writer.add(erasure.apply(batch.tables))
                first_onsets.append(batch.first_onsets)
                writer.add_quarantined(erasure.apply_to_quarantine(batch.quarantined))
                progress(f"{counts.stays:,} stays")
            gaps = find_gaps(source.needs(), counts.rows, counts.variables, counts.source_counts)
            _check_policy(counts, config, source.hints, gaps)
            warnings = _check_completeness(source, counts, config, gaps, responses)
            oracle = source.oracle()
            if oracle is not None:
                writer.add_oracle(erasure.apply_to_oracle(oracle))
            agreement = compare_definitions(first_onsets)
            provenance = _provenance(source, config, counts, agreement, warnings)
            provenance = _name_responses(provenance, source, responses, counts)
            attrition = erasure.add_step(provenance.attrition)
            writer.finish(provenance.model_copy(update={"attrition": attrition}))
    except OSError as error:
        what = f"could not write: {error}"
        raise FlowsheetError(what, where=str(target), todo="free disk space") from error
    for name, choice in source.choices().items():
        progress(f"{name}: {choice}")
    for warning in warnings:
        progress(f"warning: {warning}")
    if erasure.stays:
        progress(f"{len(erasure.stays):,} stays of erased subjects are left out")
    quarantined_rows = sum(counts.quarantined.values())
    progress(f"{counts.stays:,} stays, {quarantined_rows:,} rows quarantined")
    return Extract.open(target)


def _check_batches(
    source: Source, recipe: Recipe, build_groups: BuildGroups | None
) -> Iterator[CheckedBatch]:
    """The checked batches of a source, in their order.

    Args:
        source: the source.
        recipe: how rows are made of its records.
        build_groups: has other processes build some.

    Raises:
        CheckFailed: the records cannot be read, or a batch is not as a source has to give it.
    """
    if build_groups and isinstance(source, DividedSource):
        with spill_folder() as folder:
            with _report_unreadable(source):
                groups = source.parse(folder)
            build_groups(groups)
            yield from collect_pieces(groups, recipe)
        return
    last_stay: int | None = None
    for batch in _read_batches(source):
        checked = recipe.checker.check(batch, last_stay)
        last_stay = checked.counts.last_stay
        yield checked


def _read_batches(source: Source) -> Iterator[StayBatch]:
    with _report_unreadable(source):
        yield from source.batches()


@contextlib.contextmanager
def _report_unreadable(source: Source) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckFailed(f"the records cannot be read: {error}", where=str(source.path)) from error


def _check_policy(
    counts: ValidationCounts, config: CohortConfig, hints: Mapping[str, str], gaps: list[str]
) -> None:
    """Reject an extract with too many broken rows, or with no stays.

    Args:
        counts: they have counted the rows.
        config: the cohort, with its policy.
        hints: what a valid value looks like, by rule.
        gaps: what the records lack, which may be the reason.
    """
    policy = config.quarantine
    broken = {rule for _, rule in counts.failures}
    rejected = {rule for rule in broken if policy.of_rule(rule) is Policy.reject}
    if rejected:
        rules = ", ".join(sorted(rejected))
        what = f"the records break rules whose policy is to reject the extract: {rules}"
        raise _rejection(what, counts, hints, "fix the records", gaps)
    limit = policy.max_share
    shares = [
        f"{share:.1%} of {table}" for table, share in counts.shares().items() if share > limit
    ]
    if shares:
        what = f"too many rows break the contract: {', '.join(shares)} (limit: {limit:.1%})"
        todo = "fix the records, or raise cohort.quarantine.max_share"
        raise _rejection(what, counts, hints, todo, gaps)
    if not counts.stays:
        todo = "look at the attrition and at the rows listed above"
        raise _rejection("no stay is left", counts, hints, todo, gaps)


def _check_completeness(
    source: Source,
    counts: ValidationCounts,
    config: CohortConfig,
    gaps: list[str],
    responses: ComputedResponses,
) -> tuple[str, ...]:
    """Reject an extract without what its source needs; else return warnings of what is lacking.

    Args:
        source: the source.
        counts: they have counted the rows.
        config: the cohort, with ``allow_empty``.
        gaps: what the records lack although the source needs it.
        responses: computed from the tables; what they need and lack is a warning.
    """
    if gaps and not config.allow_empty:
        raise CheckFailed(
            "\n".join(["the records are incomplete:", *(f"    {gap}" for gap in gaps)]),
            where=str(source.path),
            todo="complete the records; or set cohort.allow_empty=true, and the extract keeps a "
            "warning",
        )
    declared = (*source.stay_columns, *source.variables)
    present = counts.stay_columns | counts.variables
    lacking = _find_response_gaps(source, responses, counts)
    names = [name for name in (*source.responses, *responses.describe()) if name not in lacking]
    warnings = find_warnings(declared, present, {name: counts.episodes[name] for name in names})
    for name, found in lacking.items():
        warnings += [f"the response {name} is not defined: {gap}" for gap in found]
    limit = config.quarantine.max_share
    implausible = find_implausible(counts.exclusions, counts.rows["events"], limit)
    losses = find_losses(counts.exclusions, counts.rows)
    losses += find_unknown_units(counts.exclusions)
    losses += find_unknown_doses(counts.exclusions)
    late = find_late(counts.late_stays)
    # a source without records lacks nothing: it has no more variables than it simulates
    core = find_core_gaps(counts.variables) if source.needs_path else []
    return (*core, *gaps, *source.warnings(), *warnings, *implausible, *losses, *late)


def _find_response_gaps(
    source: Source, responses: ComputedResponses, counts: ValidationCounts
) -> dict[str, list[str]]:
    """What the records lack that a response needs, by response.

    Sepsis needs cultures and antibiotics: where nobody has any, nobody is known to be without it.
    """
    lacking = responses.find_gaps(
        counts.rows, counts.variables, counts.source_counts, counts.stay_columns
    )
    infection = Needs(counts=source.needs().counts)
    gaps = find_gaps(infection, {}, set(), counts.source_counts)
    return {**lacking, SEPSIS: gaps} if gaps and SEPSIS in source.responses else lacking


def _name_responses(
    provenance: Provenance,
    source: Source,
    responses: ComputedResponses,
    counts: ValidationCounts,
) -> Provenance:
    """The provenance with the responses that the extract has; not those that lack what they need.

    Args:
        provenance: of the extract.
        source: which gives some responses itself.
        responses: computed from the tables.
        counts: of all batches.
    """
    lacking = _find_response_gaps(source, responses, counts)
    computed = {n: options for n, options in responses.describe().items() if n not in lacking}
    names = tuple(sorted({*source.responses, *computed} - lacking.keys()))
    return provenance.model_copy(update={"responses": names, "computed_responses": computed})


def _rejection(
    what: str, counts: ValidationCounts, hints: Mapping[str, str], todo: str, gaps: list[str]
) -> CheckFailed:
    """The error, with the counts per rule and examples of failures.

    Args:
        what: what is wrong.
        counts: they have counted the failures.
        hints: what a valid value looks like, by rule.
        todo: how to fix it.
        gaps: what the records lack.
    """
    lines = [what, *(f"    {gap}" for gap in gaps)]
    for (table, rule), n in sorted(counts.failures.items()):
        lines.append(f"{n:>9,}  {table}: {rule}")
    examples = counts.examples(_MAX_EXAMPLES)
    for row in examples.select("table", "key", "column", "rule", "value").iter_rows():
        lines.append("    " + ": ".join(cell for cell in row if cell is not None))
    broken = {rule for _, rule in counts.failures}
    known_hints = {**RULE_HINTS, **hints}
    lines += [f"    {rule}: {known_hints[rule]}" for rule in sorted(broken & known_hints.keys())]
    return CheckFailed("\n".join(lines), todo=todo)


def _provenance(
    source: Source,
    config: CohortConfig,
    counts: ValidationCounts,
    agreement: tuple[AgreementEntry, ...],
    warnings: tuple[str, ...],
) -> Provenance:
    """What the manifest says about the origin of an extract.

    Args:
        source: The source that was read.
        config: The cohort.
        counts: Of all batches.
        agreement: Of the definitions of the response.
        warnings: What the records lack.
    """
    return Provenance(
        source=SourceEntry(
            name=config.source,
            version=source.version,
            options=source.options.model_dump(mode="json"),
            choices=source.choices(),
            licence=source.licence,
            input=source.fingerprint(),
        ),
        variables=source.variables,
        drugs=source.drugs,
        attrition=tuple(counts.attrition.items()),
        exclusions=tuple(counts.exclusions.items()),
        source_counts=tuple(counts.source_counts.items()),
        definition_agreement=agreement,
        warnings=warnings,
        quarantined=counts.entries(),
        quarantined_share=counts.shares(),
    )
