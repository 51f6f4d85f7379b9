"""Promote a model version to champion if it passes the gates, or roll back; each step is logged."""

from __future__ import annotations

from flowsheet.compose import load
from flowsheet.config import FrozenModel, PromotionConfig, validate_config
from flowsheet.environment import user_name
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.metrics import get_metric
from flowsheet.lifecycle.deployment.approval import check_approver
from flowsheet.lifecycle.deployment.gates import GateResult, evaluate_gates
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.decisions import Decision, JudgedRows, champion_history, record_decision
from flowsheet.tracking.model_registry import CHALLENGER, CHAMPION, ModelVersion


class PromotionResult(FrozenModel):
    """The gates' results for a version, and the decision."""

    decision: Decision
    gates: tuple[GateResult, ...]
    run_id: str = ""
    """MLflow run of the version."""

    @property
    def promoted(self) -> bool:
        """Whether the version is the champion now."""
        return self.decision.action == "promoted"


def load_promotion_config(name: str) -> PromotionConfig:
    """The configuration of that name in conf/promotion.

    Raises:
        UsageError: there is none, or it is invalid.
    """
    config = validate_config(PromotionConfig, load("promotion", name), where=f"promotion {name}")
    get_metric(config.metric)
    return config


def promote(
    name: str,
    version: int | None,
    config: PromotionConfig,
    *,
    service: str | None = None,
    actor: str = "",
    is_attested: bool = False,
    reason: str,
) -> PromotionResult:
    """Make a version the champion if it passes every gate.

    Args:
        name: the registered model.
        version: number of the candidate; by default the challenger, or else the latest version, if
            it was trained with the champion's configuration.
        config: the gates' limits.
        service: registered name to promote the version under, if it is another one: so models of
            different kinds compete to be one service's champion.
        actor: who decides; by default the user of this process.
        is_attested: the actor has answered a form, and was not only named by this process's user.
        reason: why, for the log.

    Raises:
        UsageError: there is no such version, or it is the champion already.
        CheckFailed: the actor may not promote it, or the run of the version or of the champion has
            no predictions.
    """
    actor = actor or user_name()
    candidate = _find_candidate(name, version)
    check_approver(candidate, config, actor, is_attested=is_attested)
    if service and service != name:
        candidate = model_registry.copy_version(candidate, service)
    while True:
        champion = model_registry.find_version_by_alias(candidate.name, CHAMPION)
        if champion and champion.version == candidate.version:
            raise UsageError(f"{candidate.reference} is the champion already")
        # slow, so without the lock: a rollback must not wait for it
        gates = evaluate_gates(candidate, champion, config)
        with model_registry.promotion_lock():
            if model_registry.find_version_by_alias(candidate.name, CHAMPION) == champion:
                decision = _decide(candidate, champion, gates, actor=actor, reason=reason)
                return PromotionResult(decision=decision, gates=gates, run_id=candidate.run_id)
        # another decision has changed the champion meanwhile: compare with the new one


def evaluate_candidate(
    name: str, version: int | None, config: PromotionConfig, *, service: str | None = None
) -> tuple[ModelVersion, tuple[GateResult, ...]]:
    """The candidate and its gates' results, without a decision.

    Args:
        name: the registered model.
        version: number of the candidate; by default the challenger, or else the latest version.
        config: the gates' limits.
        service: registered name whose champion is compared with, if it is another one.
    """
    candidate = _find_candidate(name, version)
    service = service or name
    # a service that nothing was promoted to yet is not registered
    is_registered = service == name or model_registry.is_registered(service)
    champion = model_registry.find_version_by_alias(service, CHAMPION) if is_registered else None
    return candidate, evaluate_gates(candidate, champion, config)


def decline(
    candidate: ModelVersion, gates: tuple[GateResult, ...], *, actor: str, reason: str
) -> Decision:
    """Log that a person refused a version, which may have passed all gates.

    Args:
        candidate: the refused version.
        gates: its gates' results.
        actor: who refused it.
        reason: why.
    """
    with model_registry.promotion_lock():
        return record_decision(
            "refused",
            candidate,
            previous_version=None,
            package_digest=model_registry.get_package_digest(candidate),
            actor=actor,
            reason=reason,
            gates=_summarise(gates),
            rows=_find_rows(gates),
        )


def rollback(name: str, *, version: int | None = None, actor: str = "", reason: str) -> Decision:
    """Make the previous champion of a registered model, or any former one, the champion again.

    Args:
        name: the registered model.
        version: number of a former champion; by default the previous one.
        actor: who decides; by default the user of this process.
        reason: why, for the log.

    Raises:
        UsageError: there is no champion, no previous one, or the version was no champion before.
        CheckFailed: the champion is not the one that was promoted last according to the log, or
            the previous champion's package is not the one that was registered.
    """
    with model_registry.promotion_lock():
        champion = model_registry.find_version_by_alias(name, CHAMPION)
        history = champion_history(name)
        if history:
            _check_champion(name, champion, logged=history[-1])
        if len(history) < 2:
            raise UsageError(
                f"{name} has no previous champion to go back to",
                todo="see `flowsheet ls decisions`",
            )
        if version is not None and version not in history[:-1]:
            former = ", ".join(map(str, dict.fromkeys(history[:-1])))
            raise UsageError(
                f"version {version} of {name} is not a former champion",
                todo=f"former champions: {former}",
            )
        previous = model_registry.get_version(name, version or history[-2])
        with registered_packages.open_package(previous):
            pass  # verified: a server would refuse to load a damaged package
        decision = record_decision(
            "rolled back",
            previous,
            previous_version=champion.version if champion else None,
            package_digest=model_registry.get_package_digest(previous),
            actor=actor or user_name(),
            reason=reason,
        )
        model_registry.set_alias(name, CHAMPION, previous.version)
        return decision


def _find_candidate(name: str, version: int | None) -> ModelVersion:
    """That version; without a number the challenger, or else the latest version.

    Raises:
        UsageError: there is no such version; or no number is given, and the version was trained
            with another configuration than the champion, or without a champion than other versions.
    """
    if version is not None:
        return model_registry.get_version(name, version)
    aliases = model_registry.get_aliases(name)
    candidate = model_registry.get_version(name, aliases.get(CHALLENGER))
    others = model_registry.list_versions(name)
    if CHAMPION in aliases:
        others = [other for other in others if other.version == aliases[CHAMPION]]
    configuration = model_registry.get_configuration(candidate)
    if all(model_registry.get_configuration(other) == configuration for other in others):
        return candidate
    listed = {version.version: version for version in (*others, candidate)}
    runs = ", ".join(f"{number} (run {listed[number].run_id})" for number in sorted(listed))
    than = "the champion" if CHAMPION in aliases else "others"
    raise UsageError(
        f"version {candidate.version} was trained with another configuration than {than}, "
        "perhaps in a quick test",
        where=f"versions of {name}: {runs}",
        todo=f"choose one, such as --version {candidate.version}",
    )


def _decide(
    candidate: ModelVersion,
    champion: ModelVersion | None,
    gates: tuple[GateResult, ...],
    *,
    actor: str,
    reason: str,
) -> Decision:
    """Log the decision, then move the alias.

    In this order: if the process is killed in between, log and alias differ, which is noticed, and
    the promotion can be repeated.
    """
    failed = [gate.name for gate in gates if not gate.passed]
    decision = record_decision(
        "refused" if failed else "promoted",
        candidate,
        previous_version=champion.version if champion else None,
        package_digest=model_registry.get_package_digest(candidate),
        actor=actor,
        reason=f"{reason} (gates failed: {', '.join(failed)})" if failed else reason,
        gates=_summarise(gates),
        rows=_find_rows(gates),
    )
    if not failed:
        model_registry.set_champion(candidate)
    return decision


def _summarise(gates: tuple[GateResult, ...]) -> tuple[tuple[str, bool, str], ...]:
    return tuple((gate.name, gate.passed, gate.summary) for gate in gates)


def _find_rows(gates: tuple[GateResult, ...]) -> JudgedRows | None:
    return next((gate.rows for gate in gates if gate.rows), None)


def _check_champion(name: str, champion: ModelVersion | None, logged: int) -> None:
    if champion and champion.version == logged:
        return
    current = f"version {champion.version}" if champion else "no version"
    raise CheckFailed(
        f"the champion is {current}, but version {logged} according to the log of decisions",
        where=f"registered model {name}",
        todo="the alias was moved by hand, or a promotion was interrupted: "
        f"set the alias {CHAMPION} to version {logged}",
    )
