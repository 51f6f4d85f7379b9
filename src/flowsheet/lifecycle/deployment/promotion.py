"""Into service, and out of it again: every step through gates and into the log."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flowsheet.compose import load
from flowsheet.config import FrozenModel, PromotionConfig, validate_config
from flowsheet.environment import user_name
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.metrics import METRICS
from flowsheet.lifecycle.deployment.candidates import load_candidate
from flowsheet.lifecycle.deployment.gates import Gate, gates
from flowsheet.tracking import model_registry
from flowsheet.tracking.decisions import Decision, load_decisions, record_decision
from flowsheet.tracking.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"


class PromotionResult(FrozenModel):
    """What the gates said of a version, and what was decided."""

    decision: Decision
    gates: tuple[Gate, ...]

    @property
    def promoted(self) -> bool:
        """Whether it serves now."""
        return self.decision.action == "promoted"


def load_promotion_config(name: str) -> PromotionConfig:
    """The choice of that name in conf/promotion.

    Raises:
        UsageError: there is none, or it is wrong.
    """
    config = validate_config(PromotionConfig, load("promotion", name), where=f"promotion {name}")
    METRICS.get(config.metric)
    return config


def promote(
    name: str,
    version: int | None,
    config: PromotionConfig,
    *,
    service: str | None = None,
    actor: str = "",
    reason: str,
) -> PromotionResult:
    """Make a version the champion if it passes every gate.

    Args:
        name: the registered model; its challenger is promoted, or its latest version where it has
        none. version: another version than that. config: the gates. service: the registered name
        under which it is to serve, where that is another one: so versions of different kinds of
        models compete for one place.
        actor: who decides; the user of the process where nobody is named.
        reason: why, for the log.

    Raises:
        UsageError: there is no such version, or it is the champion.
        CheckFailed: the version's run keeps no predictions.
    """
    candidate = _candidate(name, version)
    place = service or name
    if place != name:
        candidate = model_registry.copy_version(candidate, place)
    while True:
        former = _rival(place, candidate)
        judged = tuple(
            _judged(candidate, former, config)
        )  # takes its time: a rollback must not wait for it
        with model_registry.promotion_lock():
            if model_registry.find_version_by_alias(place, CHAMPION) != former:
                continue  # somebody else decided meanwhile: judge against the champion of now
            return PromotionResult(
                decision=_decided(candidate, former, judged, actor or user_name(), reason),
                gates=judged,
            )


def judge(
    name: str, version: int | None, config: PromotionConfig, *, service: str | None = None
) -> tuple[ModelVersion, tuple[Gate, ...]]:
    """What the gates say of a version before anybody decides; arguments as :func:`promote`'s."""
    candidate = _candidate(name, version)
    return candidate, tuple(
        _judged(candidate, model_registry.find_version_by_alias(service or name, CHAMPION), config)
    )


def decline(
    candidate: ModelVersion, judged: tuple[Gate, ...], *, actor: str, reason: str
) -> Decision:
    """Write down that a person refused a version whose gates may have passed."""
    with model_registry.promotion_lock():
        return record_decision(
            "refused",
            candidate.name,
            candidate.version,
            previous_version=None,
            actor=actor,
            reason=reason,
            gates=tuple((gate.name, gate.passed, gate.said) for gate in judged),
        )


def _rival(place: str, candidate: ModelVersion) -> ModelVersion | None:
    former = model_registry.find_version_by_alias(place, CHAMPION)
    if former and former.version == candidate.version:
        raise UsageError(f"{place}/{candidate.version} is the champion already")
    return former


def _decided(
    candidate: ModelVersion,
    former: ModelVersion | None,
    judged: tuple[Gate, ...],
    actor: str,
    reason: str,
) -> Decision:
    """Into the log first: an alias that a kill left behind is then seen, and the same promotion may be said again."""
    name, version = candidate.name, candidate.version
    failed = [gate.name for gate in judged if not gate.passed]
    decision = record_decision(
        "refused" if failed else "promoted",
        name,
        version,
        previous_version=former.version if former else None,
        actor=actor,
        reason=f"{reason} (gates failed: {', '.join(failed)})" if failed else reason,
        gates=tuple((gate.name, gate.passed, gate.said) for gate in judged),
    )
    if not failed:
        model_registry.set_champion(candidate)
    return decision


def rollback(name: str, *, actor: str = "", reason: str) -> Decision:
    """Make the champion before the present one the champion again.

    Raises:
        UsageError: there is no champion, or none before it.
        CheckFailed: the champion is not the one that the log put there.
    """
    with model_registry.promotion_lock():
        now = model_registry.find_version_by_alias(name, CHAMPION)
        reigns = _reigns(name)
        serving = now.version if now else None
        if reigns and serving != reigns[-1]:
            raise CheckFailed(
                f"the champion is {f'version {serving}' if serving else 'no version'}, "
                f"but the log last put version {reigns[-1]} there",
                where=f"registered model {name}",
                todo=f"the alias was moved by hand, or a decision was cut off: let it stand for version {reigns[-1]}",
            )
        if len(reigns) < 2:
            raise UsageError(
                f"{name} has no former champion to go back to", todo="see `flowsheet ls decisions`"
            )
        model_registry.get_version(name, reigns[-2])
        made = record_decision(
            "rolled back",
            name,
            reigns[-2],
            previous_version=serving,
            actor=actor or user_name(),
            reason=reason,
        )
        model_registry.set_alias(name, CHAMPION, reigns[-2])
        return made


def _reigns(name: str) -> list[int]:
    """The champions that still stand, the present one last: a rollback takes the last one off.

    One that was put there by hand stands too, once a promotion has met it.
    """
    held: list[int] = []
    for decision in load_decisions():
        if decision.name != name or decision.action == "refused":
            continue
        if decision.action == "rolled back":
            held.pop()
            continue
        for version in (decision.previous_version, decision.version):
            if (
                version is not None
                and held[-1:] != [version]
                and held[-2:] != [version, decision.version]
            ):
                held.append(version)  # a promotion that was cut off and said again counts once
    return held


def _candidate(name: str, version: int | None) -> ModelVersion:
    if version is None:
        version = model_registry.get_aliases(name).get(CHALLENGER)
    return model_registry.get_version(name, version)


def _judged(
    candidate: ModelVersion, former: ModelVersion | None, config: PromotionConfig
) -> list[Gate]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mine = load_candidate(f"{candidate.name}/{candidate.version}", folder / "candidate")
        theirs = (
            load_candidate(f"{former.name}/{former.version}", folder / "champion")
            if former
            else None
        )
        return gates(candidate, mine, theirs, config)
