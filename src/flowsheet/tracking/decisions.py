"""An append-only log: who promoted, refused or rolled back which version, when and why.

It also has who erased subjects from the records, as proof.

Each decision is a run of the MLflow experiment ``decisions``. It contains the sha256 of the
decision before it, and the experiment has a tag with number and sha256 of the last one; so a
decision that was changed or deleted is noticed. This protects against accidents and against edits
in MLflow's pages, not against someone who can write to the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from flowsheet.config import FrozenModel
from flowsheet.environment import user_name
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect, is_empty

EXPERIMENT = "decisions"
_LAST_DECISION = "flowsheet.last_decision"
Action = Literal["promoted", "refused", "rolled back", "erased"]


class JudgedRows(FrozenModel):
    """The held-out rows that a decision rests on."""

    fingerprint: str
    """sha256 of the rows and their outcomes."""
    rows: int
    stays: int
    subjects: int
    first_admission: str | None = None
    """Day on which the first of the stays began; None: the extract was not at hand."""
    last_admission: str | None = None

    @property
    def summary(self) -> str:
        """The rows in words."""
        dates = ""
        if self.first_admission:
            dates = f", admitted {self.first_admission} to {self.last_admission}"
        return (
            f"{self.rows:,} rows of {self.stays:,} stays and {self.subjects:,} subjects{dates}, "
            f"fingerprint {self.fingerprint[:12]}"
        )


class Decision(FrozenModel):
    """One decision about a registered model, or the erasure of subjects."""

    number: int
    """Consecutive, from 1, over all registered models."""
    decided_at: datetime
    action: Action
    name: str
    version: int | None
    """The candidate; of a rollback, the version that is the champion again; of an erasure, none."""
    previous_version: int | None
    """The champion before the decision."""
    package_digest: str = ""
    """Of the model package of the version (``flowsheet.prediction.manifest``)."""
    actor: str
    """Who decided, as stated."""
    os_user: str = ""
    """User of the process that recorded the decision."""
    reason: str
    gates: tuple[tuple[str, bool, str], ...] = ()
    """(gate, passed, measured value and limit)."""
    rows: JudgedRows | None = None
    """What the gates judged."""
    request: str = ""
    """Id of the erasure; an interrupted one that is completed is recorded once."""
    subjects: tuple[str, ...] = ()
    """Keyed digests of the erased subjects' ids (``flowsheet.state.erasures``)."""
    erased: tuple[tuple[str, int], ...] = ()
    """(place, rows) that were erased."""
    previous_sha256: str = ""
    """Of the decision before this one."""

    @property
    def reference(self) -> str:
        """``NAME/VERSION``; empty for an erasure."""
        return "" if self.version is None else f"{self.name}/{self.version}"

    @property
    def explanation(self) -> str:
        """The reason; of an erasure, also the subjects' digests and the rows in each place."""
        if self.action != "erased":
            return self.reason
        subjects = ", ".join(subject[:12] for subject in self.subjects)
        rows = ", ".join(f"{place} {n:,}" for place, n in self.erased)
        return f"{self.reason} (subjects {subjects}; rows: {rows})"

    @property
    def sha256(self) -> str:
        """Of all fields that the record has; decisions of earlier releases have fewer."""
        return digest(self.model_dump(mode="json", exclude_unset=True))


def record_decision(
    action: Action,
    version: ModelVersion,
    *,
    previous_version: int | None,
    package_digest: str,
    actor: str,
    reason: str,
    gates: tuple[tuple[str, bool, str], ...] = (),
    rows: JudgedRows | None = None,
) -> Decision:
    """Append a decision to the log; the caller holds ``model_registry.promotion_lock()``.

    Args:
        action: what was decided.
        version: the version that it was decided about.
        previous_version: number of the champion before.
        package_digest: of the version's model package.
        actor: who decided.
        reason: why.
        gates: (gate, passed, measured value and limit).
        rows: what the gates judged.
    """
    return _append(
        action=action,
        name=version.name,
        version=version.version,
        previous_version=previous_version,
        package_digest=package_digest,
        actor=actor,
        reason=reason,
        gates=gates,
        rows=rows,
    )


def record_erasure(
    request: str,
    subjects: Iterable[str],
    erased: Mapping[str, int],
    *,
    actor: str,
    reason: str,
) -> Decision:
    """Append the proof of an erasure to the log, once; the caller holds ``promotion_lock()``.

    Args:
        request: id of the erasure.
        subjects: keyed digests of the subjects' ids.
        erased: {place: rows}.
        actor: who asked for it.
        reason: why.
    """
    for decision in load_decisions():
        if decision.request == request:
            return decision
    return _append(
        action="erased",
        name="",
        version=None,
        previous_version=None,
        actor=actor,
        reason=reason,
        request=request,
        subjects=tuple(subjects),
        erased=tuple(erased.items()),
    )


def _append(**fields: Any) -> Decision:
    decisions = load_decisions()
    decision = Decision(
        number=len(decisions) + 1,
        decided_at=datetime.now(UTC),
        os_user=user_name(),
        previous_sha256=decisions[-1].sha256 if decisions else "",
        **fields,
    )
    title = " ".join(filter(None, (f"{decision.number:05d}", decision.reference, decision.action)))
    Tracker.open().add_event_run(EXPERIMENT, title, _to_tags(decision))
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    client.set_experiment_tag(experiment.experiment_id, _LAST_DECISION, _identify(decision))
    return decision


def load_decisions() -> list[Decision]:
    """All decisions, oldest first.

    Raises:
        CheckFailed: a decision is invalid, or was changed or deleted.
    """
    if is_empty():
        return []
    recorded = [_from_tags(tags) for tags in Tracker.open().list_event_tags(EXPERIMENT)]
    # MLflow's client repeats a request to a restarted server, which may have made the run already
    unique = {decision.sha256: decision for decision in recorded}
    decisions = sorted(unique.values(), key=lambda decision: decision.number)
    previous_sha256 = ""
    for number, decision in enumerate(decisions, 1):
        if (decision.number, decision.previous_sha256) != (number, previous_sha256):
            raise _tampering_error(f"the decision before number {decision.number}")
        previous_sha256 = decision.sha256
    experiment = connect().get_experiment_by_name(EXPERIMENT)
    last = experiment.tags.get(_LAST_DECISION) if experiment else None
    # the second last as well: a process can be killed before it updates the tag
    if last and last not in map(_identify, decisions[-2:]):
        raise _tampering_error("the last decision")
    return decisions


def champion_history(name: str) -> list[int]:
    """Versions of a registered model that were the champion, the current one last.

    A rollback removes the entries after the version that it goes back to. A version that became
    the champion without a decision counts
    as soon as a promotion has replaced it; a promotion that was interrupted and repeated counts
    once.

    Raises:
        CheckFailed: a decision is invalid, or was changed or deleted.
    """
    history: list[int] = []
    for decision in load_decisions():
        if decision.name != name or decision.action in ("refused", "erased"):
            continue
        if decision.action == "rolled back":
            history.pop()
            while len(history) > 1 and history[-1] != decision.version:
                history.pop()
            continue
        for version in (decision.previous_version, decision.version):
            is_last = history[-1:] == [version]
            is_repeated = history[-2:] == [version, decision.version]
            if version is not None and not is_last and not is_repeated:
                history.append(version)
    return history


def _identify(decision: Decision) -> str:
    return f"{decision.number} {decision.sha256}"


def _to_tags(decision: Decision) -> dict[str, str]:
    return {
        "decision.action": decision.action,
        "decision.name": decision.name,
        "decision.version": "" if decision.version is None else str(decision.version),
        "decision.actor": decision.actor,
        "decision": decision.model_dump_json(exclude_unset=True),
        "mlflow.note.content": decision.reason,
    }


def _from_tags(tags: dict[str, Any]) -> Decision:
    try:
        return Decision.model_validate_json(tags["decision"])
    except (KeyError, ValidationError) as error:
        raise CheckFailed(
            "a decision cannot be read: a newer release wrote it, or it was changed",
            where=f"MLflow experiment {EXPERIMENT}",
            todo="use the release that wrote it, or restore it from a backup of the tracking "
            "database",
        ) from error


def _tampering_error(what: str) -> CheckFailed:
    return CheckFailed(
        f"{what} was changed or deleted",
        where=f"MLflow experiment {EXPERIMENT}",
        todo="restore it from a backup of the tracking database",
    )
