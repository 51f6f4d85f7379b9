"""Promotion through gates, rollback within seconds, and a log entry for every decision."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from flowsheet.config import PromotionConfig
from flowsheet.environment import user_name
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment import approval, promotion
from flowsheet.lifecycle.deployment.promotion import (
    PromotionResult,
    load_promotion_config,
    promote,
    rollback,
)
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.decisions import load_decisions
from flowsheet.tracking.store import connect

BETTER = PromotionConfig(name="quick", resamples=100, latency_ms=60_000)
NOT_WORSE = BETTER.model_copy(update={"rule": "not_worse", "margin": 0.01})
GATES = {
    "rows",
    "better",
    "calibration slope",
    "calibration error",
    "subgroups",
    "signature",
    "latency",
}


def failed_gates(result: PromotionResult) -> list[str]:
    return [gate.name for gate in result.gates if not gate.passed]


def promote_first(registrar, quality: str = "weak") -> int:
    """Register and promote a version."""
    version = registrar.register(quality)
    result = promote(registrar.name, version, BETTER, reason="first")
    assert result.promoted, failed_gates(result)
    return version


def get_champion(registrar) -> int | None:
    return model_registry.get_aliases(registrar.name).get("champion")


def logged_decisions(registrar) -> list[tuple[str, int, int | None]]:
    """(action, version, previous version) of the registered model."""
    return [
        (decision.action, decision.version, decision.previous_version)
        for decision in load_decisions()
        if decision.name == registrar.name
    ]


def test_the_first_version_has_no_champion_to_beat_and_must_pass_the_other_gates(registrar):
    version = registrar.register("weak")
    result = promote(registrar.name, version, BETTER, actor="ada", reason="the first one")
    assert result.promoted
    assert {gate.name for gate in result.gates} == GATES
    assert get_champion(registrar) == 1
    decision = load_decisions()[-1]
    assert decision == result.decision
    assert (decision.actor, decision.reason) == ("ada", "the first one")
    assert decision.previous_version is None
    summaries = {name: summary for name, _, summary in decision.gates}
    assert summaries["better"] == "there is no champion yet"


def test_a_better_model_becomes_the_champion(registrar):
    promote_first(registrar)
    version = registrar.register("good")
    result = promote(registrar.name, version, BETTER, reason="better")
    assert result.promoted, failed_gates(result)
    assert get_champion(registrar) == version
    assert logged_decisions(registrar) == [("promoted", 1, None), ("promoted", 2, 1)]


def test_gates_speak_of_the_response_of_the_task(registrar):
    kidneys = {"task": {"response": "aki"}, "with_states": True}
    registrar.register("weak", **kidneys)
    assert promote(registrar.name, 1, BETTER, reason="first").promoted
    registrar.register("good", **kidneys)
    result = promote(registrar.name, 2, BETTER, reason="better")
    text = " ".join(gate.summary for gate in result.gates)
    assert not re.search("septic|sepsis", text, flags=re.IGNORECASE)
    assert text.count("among patients not yet in kidney injury") >= 3


@pytest.mark.parametrize("config", [BETTER, NOT_WORSE], ids=["better", "not_worse"])
def test_a_worse_model_is_refused(registrar, config):
    promote_first(registrar, "good")
    result = promote(registrar.name, registrar.register("weak"), config, reason="try")
    assert failed_gates(result) == [config.rule]
    assert get_champion(registrar) == 1
    assert load_decisions()[-1].reason == f"try (gates failed: {config.rule})"
    assert logged_decisions(registrar)[-1] == ("refused", 2, 1)


def test_an_equal_model_is_not_better_but_not_worse_either(registrar):
    promote_first(registrar, "good")
    equal = registrar.register("good")
    assert failed_gates(promote(registrar.name, equal, BETTER, reason="try")) == ["better"]
    assert promote(registrar.name, equal, NOT_WORSE, reason="regular retraining").promoted


def test_a_badly_calibrated_model_is_refused(registrar):
    promote_first(registrar, "weak")
    result = promote(registrar.name, registrar.register("overconfident"), BETTER, reason="try")
    assert failed_gates(result) == ["calibration slope", "calibration error"]
    assert get_champion(registrar) == 1


def test_predictions_of_other_rows_are_not_compared(registrar):
    promote_first(registrar, "weak")
    result = promote(registrar.name, registrar.register("good", rows=1), BETTER, reason="try")
    assert failed_gates(result) == ["rows", "better"]
    assert "y differs in" in result.gates[0].summary
    assert get_champion(registrar) == 1


def test_predictions_for_another_task_are_not_compared(registrar):
    promote_first(registrar, "weak")
    version = registrar.register("good", task={"horizon": 2})
    result = promote(registrar.name, version, BETTER, reason="try")
    assert failed_gates(result) == ["rows", "better"]
    assert "task.horizon is 1 and 2" in result.gates[0].summary


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("subgroups", {"subgroup_floor": 0.99}),
        ("latency", {"latency_ms": 1e-6}),
        ("calibration error", {"ece": 1e-9}),
    ],
)
def test_a_single_failed_gate_refuses_a_version(registrar, gate, change):
    version = registrar.register("weak")
    config = BETTER.model_copy(update=change)
    assert failed_gates(promote(registrar.name, version, config, reason="try")) == [gate]
    assert get_champion(registrar) is None


def test_the_challenger_is_the_default_candidate(registrar):
    promote_first(registrar, "weak")
    better = registrar.register("good")
    registrar.register("weak")
    model_registry.propose_challenger(registrar.name, better)
    result = promote(registrar.name, None, BETTER, reason="the challenger won")
    assert result.decision.version == better
    assert model_registry.get_aliases(registrar.name) == {"champion": better}


def test_models_of_different_kinds_compete_under_the_name_of_a_service(registrar):
    service = f"{registrar.name}-service"
    other = f"{registrar.name}-other"
    registrar.register("weak")
    registrar.register("good", name=other)
    assert promote(registrar.name, 1, BETTER, service=service, reason="first").promoted
    assert promote(other, 1, BETTER, service=service, reason="better").promoted
    assert model_registry.get_aliases(service) == {"champion": 2}
    assert model_registry.get_aliases(registrar.name) == {}
    rollback(service, reason="no")
    again = promote(other, 1, BETTER, service=service, reason="again")
    assert again.decision.version == 2
    assert model_registry.get_version(service).version == 2
    champion = model_registry.get_version_by_alias(service, "champion")
    assert registered_packages.load_package(champion).kind == "logistic_regression"


def test_rollback_is_quick_and_goes_back_one_champion_at_a_time(registrar):
    for _ in range(3):
        version = registrar.register("good")
        assert promote(registrar.name, version, NOT_WORSE, reason="monthly").promoted
    started = time.perf_counter()
    decision = rollback(registrar.name, actor="night shift", reason="alerts all night")
    assert time.perf_counter() - started < 5
    assert (decision.version, decision.previous_version) == (2, 3)
    assert decision.actor == "night shift"
    assert get_champion(registrar) == 2
    rollback(registrar.name, reason="still")
    assert get_champion(registrar) == 1
    with pytest.raises(UsageError, match="no previous champion"):
        rollback(registrar.name, reason="and again")
    assert promote(registrar.name, 3, NOT_WORSE, reason="fixed").promoted
    rollback(registrar.name, reason="not fixed")
    assert get_champion(registrar) == 1
    actions = [action for action, *_ in logged_decisions(registrar)]
    assert actions == ["promoted"] * 3 + ["rolled back"] * 2 + ["promoted", "rolled back"]


def test_impossible_promotions_are_usage_errors(registrar):
    promote_first(registrar)
    with pytest.raises(UsageError, match="is the champion already"):
        promote(registrar.name, 1, BETTER, reason="again")
    with pytest.raises(UsageError, match="has no version 7"):
        promote(registrar.name, 7, BETTER, reason="try")
    with pytest.raises(UsageError, match="no registered model"):
        promote("unknown", None, BETTER, reason="try")
    with pytest.raises(UsageError, match="no previous champion"):
        rollback(registrar.name, reason="try")
    assert len(logged_decisions(registrar)) == 1


def test_an_alias_that_was_moved_by_hand_stops_a_rollback(registrar):
    promote_first(registrar, "weak")
    promote_first(registrar, "good")
    other = registrar.register("good")
    model_registry.set_alias(registrar.name, "champion", other)
    with pytest.raises(CheckFailed, match="champion is version 3, but version 2 according to"):
        rollback(registrar.name, reason="try")
    model_registry.delete_alias(registrar.name, "champion")
    with pytest.raises(CheckFailed, match="champion is no version, but version 2 according to"):
        rollback(registrar.name, reason="try")
    model_registry.set_alias(registrar.name, "champion", 2)
    rollback(registrar.name, reason="alias restored")
    assert get_champion(registrar) == 1


def test_a_champion_that_was_set_by_hand_can_be_rolled_back_to(registrar):
    registrar.register("weak")
    model_registry.set_alias(registrar.name, "champion", 1)
    version = registrar.register("good")
    assert promote(registrar.name, version, BETTER, reason="the first through gates").promoted
    rollback(registrar.name, reason="too many alerts")
    assert get_champion(registrar) == 1


def test_an_interrupted_promotion_can_be_repeated(registrar, monkeypatch):
    promote_first(registrar, "weak")
    version = registrar.register("good")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model_registry, "set_alias", interrupt)
        with pytest.raises(KeyboardInterrupt):
            promote(registrar.name, version, BETTER, reason="better")
    assert get_champion(registrar) == 1
    with pytest.raises(CheckFailed, match="a promotion was interrupted"):
        rollback(registrar.name, reason="what happened?")
    assert promote(registrar.name, version, BETTER, reason="better").promoted
    rollback(registrar.name, reason="back")
    assert get_champion(registrar) == 1


def test_a_champion_that_changes_during_the_evaluation_is_compared_with(registrar, monkeypatch):
    promote_first(registrar, "weak")
    good = registrar.register("good")
    equal = registrar.register("good")
    evaluate_gates = promotion.evaluate_gates
    champions = []

    def change_champion_once(candidate, champion, config):
        champions.append(champion.version)
        gates = evaluate_gates(candidate, champion, config)
        if len(champions) == 1:
            model_registry.set_alias(registrar.name, "champion", good)
        return gates

    monkeypatch.setattr(promotion, "evaluate_gates", change_champion_once)
    result = promote(registrar.name, equal, BETTER, reason="try")
    assert champions == [1, good]
    assert failed_gates(result) == ["better"]
    assert get_champion(registrar) == good


def start_command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flowsheet", *arguments],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.slow
def test_simultaneous_promotions_are_decided_one_after_the_other(registrar):
    promote_first(registrar, "weak")
    for _ in range(2):
        registrar.register("good")
    before = len(load_decisions())
    options = ["--reason", "both"]
    commands = [
        start_command("promote", registrar.name, "--version", str(version), *options)
        for version in (2, 3)
    ]
    outputs = [command.communicate(timeout=180) for command in commands]
    exit_codes = sorted(command.returncode for command in commands)
    assert exit_codes == [0, 1], outputs  # the second is not better than the first
    promoted, refused = load_decisions()[before:]
    assert (promoted.action, refused.action) == ("promoted", "refused")
    assert (promoted.previous_version, refused.previous_version) == (1, promoted.version)
    assert get_champion(registrar) == promoted.version
    rollback(registrar.name, reason="tidy up")
    assert get_champion(registrar) == 1


def test_the_command_prints_the_gates_and_exits_with_1_if_one_fails(registrar):
    promote_first(registrar, "good")
    registrar.register("weak")
    refused = start_command("promote", registrar.name, "--reason", "try")
    output, errors = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert "failed" in output
    assert errors == f"error: refused: better\n  where: {registrar.name}/2\n"


def test_the_command_requires_a_reason(registrar):
    command = start_command("promote", registrar.name)
    assert "missing option '--reason'" in command.communicate(timeout=60)[1]
    assert command.returncode == 2


@pytest.mark.parametrize("name", ["standard", "refresh"])
def test_the_configurations_of_the_repository_are_valid(name):
    assert load_promotion_config(name).name == name


def test_only_declared_approvers_promote(registrar):
    version = registrar.register("weak")
    config = BETTER.model_copy(update={"approvers": ("ada", "bob")})
    with pytest.raises(CheckFailed, match="eve is not an approver") as caught:
        promote(registrar.name, version, config, actor="eve", reason="now")
    assert "ada, bob" in str(caught.value.todo)
    assert get_champion(registrar) is None
    assert promote(registrar.name, version, config, actor="bob", reason="now").promoted


def test_whoever_trained_a_model_does_not_promote_it_alone(registrar, monkeypatch):
    version = registrar.register("weak")
    config = BETTER.model_copy(update={"four_eyes": True})
    for tagged in ("", "carol"):
        run_id = model_registry.get_version(registrar.name, version).run_id
        connect().set_tag(run_id, "mlflow.user", tagged)
        monkeypatch.setattr(approval, "user_name", lambda: "carol")
        for actor in ("", "carol", "bob"):
            with pytest.raises(CheckFailed, match="second person"):
                promote(registrar.name, version, config, actor=actor, reason="mine")
    with pytest.raises(CheckFailed, match="carol trained it"):
        promote(registrar.name, version, config, actor="carol", is_attested=True, reason="x")
    result = promote(registrar.name, version, config, actor="bob", is_attested=True, reason="x")
    assert result.promoted


def test_the_log_keeps_the_os_user_beside_the_stated_actor(registrar):
    promote(registrar.name, registrar.register("weak"), BETTER, actor="ada", reason="first")
    decision = load_decisions()[-1]
    assert (decision.actor, decision.os_user) == ("ada", user_name())


def tag_configuration(version: int, registrar, configuration: str) -> None:
    connect().set_model_version_tag(
        registrar.name, str(version), model_registry.CONFIGURATION, configuration
    )


def test_a_version_of_another_configuration_is_promoted_by_its_number_only(registrar):
    champion = promote_first(registrar)
    quick_test = registrar.register("good")
    model_registry.set_alias(registrar.name, model_registry.CHALLENGER, quick_test)
    tag_configuration(champion, registrar, "all stays")
    tag_configuration(quick_test, registrar, "20 stays")
    with pytest.raises(UsageError, match=f"--version {quick_test}"):
        promote(registrar.name, None, BETTER, reason="the newest one")
    assert get_champion(registrar) == champion
    assert promote(registrar.name, quick_test, BETTER, reason="named").promoted


def test_without_a_champion_versions_of_several_configurations_take_a_choice(registrar):
    first = registrar.register("good")
    tag_configuration(first, registrar, "all stays")
    tag_configuration(registrar.register("weak"), registrar, "20 stays")
    with pytest.raises(UsageError, match="another configuration than others"):
        promote(registrar.name, None, BETTER, reason="the newest one")
    assert get_champion(registrar) is None
