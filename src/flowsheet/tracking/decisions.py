"""Who put which version into service, when and why: a log that is only ever added to.

Each decision is a run of the MLflow experiment ``decisions``. It holds the sha256 of the one before
it, and the experiment holds the number and sha256 of the last one, so that a decision that was
changed or taken out is seen. That guards against accidents and against a hand in the tracking page;
whoever may write to the database can forge all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest
from flowsheet.tracking.runs import Tracker
from flowsheet.tracking.store import connect, is_empty

EXPERIMENT = "decisions"
_LAST = "flowsheet.last_decision"
Action = Literal["promoted", "refused", "rolled back"]


class Decision(FrozenModel):
    """One decision about a registered name."""

    number: int
    """Counted from 1 over all names."""
    decided_at: datetime
    action: Action
    name: str
    version: int
    """The version that was decided about; of a rollback the one that serves again."""
    previous_version: int | None
    """The champion before."""
    actor: str
    reason: str
    gates: tuple[tuple[str, bool, str], ...] = ()
    """(gate, passed, figure and limit)."""
    previous_sha256: str = ""
    """sha256 of the decision before this one."""

    @property
    def sha256(self) -> str:
        """Of everything above."""
        return digest(self.model_dump(mode="json"))


def record_decision(
    action: Action,
    name: str,
    version: int,
    *,
    previous_version: int | None,
    actor: str,
    reason: str,
    gates: tuple[tuple[str, bool, str], ...] = (),
) -> Decision:
    """Add a decision to the log. To be called while holding ``model_registry.promotion_lock()``."""
    held = load_decisions()
    made = Decision(
        number=len(held) + 1,
        decided_at=datetime.now(UTC),
        action=action,
        name=name,
        version=version,
        previous_version=previous_version,
        actor=actor,
        reason=reason,
        gates=gates,
        previous_sha256=held[-1].sha256 if held else "",
    )
    text = made.model_dump_json()
    Tracker.open().add_event_run(
        EXPERIMENT, f"{made.number:05d} {name}/{version} {action}", _tags(made, text)
    )
    client = connect()
    client.set_experiment_tag(
        client.get_experiment_by_name(EXPERIMENT).experiment_id, _LAST, _mark(made)
    )
    return made


def _mark(decision: Decision) -> str:
    return f"{decision.number} {decision.sha256}"


def _tags(made: Decision, text: str) -> dict[str, str]:
    shown = {
        "action": made.action,
        "name": made.name,
        "version": str(made.version),
        "actor": made.actor,
    }
    return {
        **{f"decision.{key}": value for key, value in shown.items()},
        "decision": text,
        "mlflow.note.content": made.reason,
    }


def load_decisions() -> list[Decision]:
    """All decisions, the first one first.

    Raises:
        CheckFailed: one is damaged, or was changed or taken out afterwards.
    """
    if is_empty():
        return []
    read = [_read(tags) for tags in Tracker.open().list_event_tags(EXPERIMENT)]
    # a server that was killed after it had made the run, and before it said so, was told the same decision again
    found = sorted(
        {decision.sha256: decision for decision in read}.values(),
        key=lambda decision: decision.number,
    )
    before = ""
    for place, decision in enumerate(found, 1):
        if (decision.number, decision.previous_sha256) != (place, before):
            raise _damaged(f"the decision before number {decision.number}")
        before = decision.sha256
    held = connect().get_experiment_by_name(EXPERIMENT)
    last = held.tags.get(_LAST) if held else None
    if last and last not in map(_mark, found[-2:]):  # a kill may come before the mark is moved
        raise _damaged("the last decision")
    return found


def _damaged(what: str) -> CheckFailed:
    return CheckFailed(
        f"{what} was changed or taken out",
        where=f"MLflow experiment {EXPERIMENT}",
        todo="restore it from a backup of the tracking database",
    )


def _read(tags: dict[str, Any]) -> Decision:
    try:
        return Decision.model_validate_json(tags["decision"])
    except (KeyError, ValidationError) as error:
        raise CheckFailed(
            "a decision cannot be read", where=f"MLflow experiment {EXPERIMENT}"
        ) from error
