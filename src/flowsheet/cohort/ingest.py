"""Raw records in, a validated extract out, or a table that says why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from glob import escape
from pathlib import Path

from flowsheet.cohort import checks
from flowsheet.cohort.extract import Extract, Provenance, SourceEntry
from flowsheet.cohort.quarantine import ASCENDING, Sieve
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.writer import ExtractWriter
from flowsheet.config import CohortConfig, validate_config
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError, did_you_mean
from flowsheet.state.locks import try_lock
from flowsheet.state.publish import publish

Progress = Callable[[str], None]
_SHOWN = 20


def make_source(config: CohortConfig) -> Source:
    """The source that a cohort names, with its options validated; nothing is read yet.

    Raises:
        UsageError: no such source, option, rule or path; the message names the nearest right one.
    """
    source = SOURCES.get(config.source)
    options = validate_config(
        source.Options, config.options, f"cohort {config.name}", prefix=("cohort", "options")
    )
    known = checks.rule_names() | {ASCENDING, *source.rules}
    for rule in config.quarantine.rules.keys() - known:
        raise UsageError(
            f"there is no rule {rule!r} to declare a policy for", todo=did_you_mean(rule, known)
        )
    return source(_raw_path(config) if source.needs_path else None, options)


def _raw_path(config: CohortConfig) -> Path:
    if not config.path:
        raise UsageError(
            f"the cohort {config.name!r} needs to know where its records are",
            todo="say cohort.path=FOLDER_OR_FILE",
        )
    path = Path(config.path).expanduser().absolute()
    if not path.exists():
        raise UsageError("the records are not there", where=str(path), todo="mend cohort.path")
    return path


def ingest(source: Source, config: CohortConfig, target: Path, progress: Progress) -> Extract:
    """Read a source batch by batch, check every row, and publish the extract whole or not at all.

    An extract that is at ``target`` already stays as it is until the new one is complete.

    Raises:
        CheckFailed: the records cannot be read, a rule whose policy is ``reject`` is broken, or
            more than the declared share of a table's rows had to be quarantined.
        FlowsheetError: the disk is full or not writable.
    """
    sieve = Sieve(config.quarantine)
    try:
        _clear(target)
        with publish(target) as folder, try_lock(folder), ExtractWriter(folder) as writer:
            for batch in _read(source):
                tables, aside = sieve.sift(batch)
                writer.add(tables)
                writer.add_quarantined(aside)
                progress(f"{sieve.kept:,} stays")
            _judge(sieve, config)
            oracle = source.oracle()
            if oracle is not None:
                writer.add_oracle(oracle)
            writer.finish(_provenance(source, config, sieve))
    except OSError as error:
        raise FlowsheetError(
            f"could not write: {error}", where=str(target), todo="make room"
        ) from error
    progress(f"{sieve.kept:,} stays kept, {sum(sieve.quarantined.values()):,} rows quarantined")
    return Extract.open(target)


def _read(source: Source) -> Iterator[StayBatch]:
    try:
        yield from source.batches()
    except OSError as error:
        raise CheckFailed(f"the records cannot be read: {error}", where=str(source.path)) from error


def _judge(sieve: Sieve, config: CohortConfig) -> None:
    """Refuse an extract of which too much is wrong."""
    limit = config.quarantine.max_share
    over = {table: share for table, share in sieve.shares().items() if share > limit}
    if sieve.rejected:
        rules = ", ".join(sorted(sieve.rejected))
        raise _refusal(
            f"the records break rules that allow no exception: {rules}", sieve, "mend the records"
        )
    if over:
        shares = ", ".join(f"{share:.1%} of {table}" for table, share in over.items())
        todo = "mend the records, or allow more with cohort.quarantine.max_share"
        raise _refusal(
            f"too many rows break the contract: {shares} (at most {limit:.1%} may)", sieve, todo
        )
    if not sieve.kept:
        raise _refusal(
            "no stay is left", sieve, "look at the attrition and at the rows named above"
        )


def _refusal(what: str, sieve: Sieve, todo: str) -> CheckFailed:
    lines = [f"{n:>9,}  {table}: {rule}" for (table, rule), n in sorted(sieve.counts.items())]
    shown = sieve.examples(_SHOWN).select("table", "key", "column", "rule", "value")
    rows = [
        "    " + ": ".join(cell for cell in row if cell is not None) for row in shown.iter_rows()
    ]
    return CheckFailed("\n".join([what, *lines, *rows]), todo=todo)


def _provenance(source: Source, config: CohortConfig, sieve: Sieve) -> Provenance:
    return Provenance(
        source=SourceEntry(
            name=config.source,
            version=source.version,
            options=source.options.model_dump(mode="json"),
            licence=source.licence,
            input=source.fingerprint(),
        ),
        variables=source.variables,
        drugs=source.drugs,
        attrition=tuple(sieve.attrition.items()),
        exclusions=tuple(sieve.exclusions.items()),
        source_counts=tuple(sieve.source_counts.items()),
        quarantined=sieve.entries(),
        quarantined_share=sieve.shares(),
    )


def _clear(target: Path) -> None:
    """Remove what killed writers of this target left, and bring back an extract that one had just moved aside."""
    parts = f".{escape(target.name)}.{'[0-9a-f]' * 8}.part"
    for part in target.parent.glob(f"{parts}.old"):
        if target.exists():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.rename(target)
    for part in target.parent.glob(parts):
        with try_lock(part) as is_free:
            if is_free:
                shutil.rmtree(part, ignore_errors=True)
