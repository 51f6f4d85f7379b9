"""Into service through gates, out of it in seconds, and every step in the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from flowsheet.config import PromotionConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment import promotion
from flowsheet.lifecycle.deployment.promotion import load_promotion_config, promote, rollback
from flowsheet.tracking import model_registry
from flowsheet.tracking.decisions import EXPERIMENT, load_decisions
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


def failed(verdict):
    return [gate.name for gate in verdict.gates if not gate.passed]


def promote_first(registrar, says="weak", **how):
    """A version, promoted."""
    version = registrar.register(says, **how)
    verdict = promote(how.get("name", registrar.name), version, BETTER, reason="first")
    assert verdict.promoted, failed(verdict)
    return version


def serving(registrar):
    return model_registry.get_aliases(registrar.name).get("champion")


def mine(registrar):
    return [
        (d.action, d.version, d.previous_version)
        for d in load_decisions()
        if d.name == registrar.name
    ]


def test_the_first_version_has_nobody_to_beat_and_must_pass_the_rest(registrar):
    verdict = promote(
        registrar.name, registrar.register("weak"), BETTER, actor="ada", reason="the first one"
    )
    assert verdict.promoted
    assert {gate.name for gate in verdict.gates} == GATES
    assert serving(registrar) == 1
    decision = load_decisions()[-1]
    assert decision == verdict.decision
    assert (decision.actor, decision.reason, decision.previous_version) == (
        "ada",
        "the first one",
        None,
    )
    assert {name: said for name, _, said in decision.gates}["better"] == "there is no champion yet"


def test_a_better_model_takes_its_place(registrar):
    promote_first(registrar)
    version = registrar.register("good")
    verdict = promote(registrar.name, version, BETTER, reason="better")
    assert verdict.promoted, failed(verdict)
    assert serving(registrar) == version
    assert mine(registrar) == [("promoted", 1, None), ("promoted", 2, 1)]


@pytest.mark.parametrize("config", [BETTER, NOT_WORSE], ids=["better", "not_worse"])
def test_a_worse_model_is_refused(registrar, config):
    promote_first(registrar, "good")
    verdict = promote(registrar.name, registrar.register("weak"), config, reason="try")
    assert failed(verdict) == [config.rule]
    assert serving(registrar) == 1
    assert load_decisions()[-1].reason == f"try (gates failed: {config.rule})"
    assert mine(registrar)[-1] == ("refused", 2, 1)


def test_an_equal_model_is_no_better_but_not_worse_either(registrar):
    promote_first(registrar, "good")
    equal = registrar.register("good")
    assert failed(promote(registrar.name, equal, BETTER, reason="try")) == ["better"]
    assert promote(registrar.name, equal, NOT_WORSE, reason="regular retraining").promoted


def test_a_badly_calibrated_model_is_refused(registrar):
    promote_first(registrar, "weak")
    verdict = promote(registrar.name, registrar.register("overconfident"), BETTER, reason="try")
    assert failed(verdict) == ["calibration slope", "calibration error"]
    assert serving(registrar) == 1


def test_figures_on_other_rows_do_not_count(registrar):
    promote_first(registrar, "weak")
    verdict = promote(registrar.name, registrar.register("good", rows=1), BETTER, reason="try")
    assert failed(verdict) == ["rows", "better"]
    assert "y differs in" in verdict.gates[0].said
    assert serving(registrar) == 1


def test_figures_of_another_task_do_not_count(registrar):
    promote_first(registrar, "weak")
    verdict = promote(
        registrar.name, registrar.register("good", task={"horizon": 2}), BETTER, reason="try"
    )
    assert failed(verdict) == ["rows", "better"]
    assert "task.horizon is 1 and 2" in verdict.gates[0].said


def test_each_further_gate_refuses_by_itself(registrar):
    version = registrar.register("weak")
    for gate, change in {
        "subgroups": {"subgroup_floor": 0.99},
        "latency": {"latency_ms": 1e-6},
        "calibration error": {"ece": 1e-9},
    }.items():
        verdict = promote(registrar.name, version, BETTER.model_copy(update=change), reason="try")
        assert failed(verdict) == [gate]
    assert serving(registrar) is None


def test_the_challenger_is_meant_where_no_version_is_named(registrar):
    promote_first(registrar, "weak")
    better, _ = registrar.register("good"), registrar.register("weak")
    model_registry.set_challenger(registrar.name, better)
    assert (
        promote(registrar.name, None, BETTER, reason="the challenger won").decision.version
        == better
    )
    assert model_registry.get_aliases(registrar.name) == {"champion": better}


def test_kinds_of_models_compete_for_one_place(registrar):
    place = f"{registrar.name}-place"
    registrar.register("weak")
    registrar.register("good", name=f"{registrar.name}-other")
    assert promote(registrar.name, 1, BETTER, service=place, reason="first").promoted
    assert promote(f"{registrar.name}-other", 1, BETTER, service=place, reason="better").promoted
    assert model_registry.get_aliases(place) == {"champion": 2}
    assert model_registry.get_aliases(registrar.name) == {}
    rollback(place, reason="no")
    assert (
        promote(
            f"{registrar.name}-other", 1, BETTER, service=place, reason="again"
        ).decision.version
        == 2
    )
    assert model_registry.get_version(place).version == 2
    assert (
        model_registry.load_package(model_registry.get_version_by_alias(place, "champion")).kind
        == "logistic_regression"
    )


def test_rollback_is_quick_and_goes_back_one_by_one(registrar):
    for _ in range(3):
        version = registrar.register("good")
        assert promote(registrar.name, version, NOT_WORSE, reason="monthly").promoted
    started = time.perf_counter()
    decision = rollback(registrar.name, actor="night shift", reason="alarms all night")
    assert time.perf_counter() - started < 5
    assert (serving(registrar), decision.previous_version, decision.actor) == (2, 3, "night shift")
    rollback(registrar.name, reason="still")
    assert serving(registrar) == 1
    with pytest.raises(UsageError, match="no former champion"):
        rollback(registrar.name, reason="and again")
    assert promote(registrar.name, 3, NOT_WORSE, reason="mended").promoted
    rollback(registrar.name, reason="not mended")
    assert serving(registrar) == 1
    assert [action for action, *_ in mine(registrar)] == ["promoted"] * 3 + ["rolled back"] * 2 + [
        "promoted",
        "rolled back",
    ]


def test_what_cannot_be_promoted_is_said(registrar):
    promote_first(registrar)
    with pytest.raises(UsageError, match="is the champion already"):
        promote(registrar.name, 1, BETTER, reason="again")
    with pytest.raises(UsageError, match="has no version 7"):
        promote(registrar.name, 7, BETTER, reason="try")
    with pytest.raises(UsageError, match="no registered model"):
        promote("nobody", None, BETTER, reason="try")
    with pytest.raises(UsageError, match="no former champion"):
        rollback(registrar.name, reason="try")
    assert len(mine(registrar)) == 1


def test_an_alias_moved_by_hand_is_noticed_and_never_guessed_about(registrar):
    promote_first(registrar, "weak")
    promote_first(registrar, "good")
    other = registrar.register("good")
    model_registry.set_alias(registrar.name, "champion", other)
    with pytest.raises(
        CheckFailed, match="champion is version 3, but the log last put version 2 there"
    ):
        rollback(registrar.name, reason="try")
    model_registry.delete_alias(registrar.name, "champion")
    with pytest.raises(CheckFailed, match="champion is no version, but the log"):
        rollback(registrar.name, reason="try")
    model_registry.set_alias(registrar.name, "champion", 2)
    rollback(registrar.name, reason="put right")
    assert serving(registrar) == 1


def test_a_champion_made_by_hand_can_be_gone_back_to(registrar):
    registrar.register("weak")
    model_registry.set_alias(registrar.name, "champion", 1)
    assert promote(
        registrar.name, registrar.register("good"), BETTER, reason="the first through gates"
    ).promoted
    rollback(registrar.name, reason="too many alarms")
    assert serving(registrar) == 1


def test_a_promotion_that_was_cut_off_may_be_said_again(registrar, monkeypatch):
    promote_first(registrar, "weak")
    version = registrar.register("good")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(promotion.model_registry, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(registrar.name, version, BETTER, reason="better")
    assert serving(registrar) == 1
    with pytest.raises(CheckFailed, match="a decision was cut off"):
        rollback(registrar.name, reason="what happened?")
    assert promote(registrar.name, version, BETTER, reason="better").promoted
    rollback(registrar.name, reason="back")
    assert serving(registrar) == 1


def test_a_champion_that_changes_while_a_candidate_is_judged_is_the_one_to_beat(
    registrar, monkeypatch
):
    promote_first(registrar, "weak")
    good, equal = registrar.register("good"), registrar.register("good")
    judged, calls = promotion._judged, []

    def meanwhile(*arguments):
        calls.append(arguments[1].version)
        found = judged(*arguments)
        if len(calls) == 1:
            model_registry.set_alias(registrar.name, "champion", good)
        return found

    monkeypatch.setattr(promotion, "_judged", meanwhile)
    verdict = promote(registrar.name, equal, BETTER, reason="try")
    assert calls == [1, good]
    assert failed(verdict) == ["better"]
    assert serving(registrar) == good


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "flowsheet", *arguments],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_that_decide_at_once_are_one_after_the_other(registrar):
    promote_first(registrar, "weak")
    for _ in range(2):
        registrar.register("good")
    before = len(load_decisions())
    rivals = [
        command(
            "promote",
            registrar.name,
            "--version",
            str(version),
            "--reason",
            "both",
            "--actor",
            f"number {version}",
        )
        for version in (2, 3)
    ]
    said = [rival.communicate(timeout=180) for rival in rivals]
    codes = sorted(rival.returncode for rival in rivals)
    assert codes == [0, 1], said  # the one that came second was no better than the first
    after = load_decisions()[before:]
    assert [d.action for d in after] == ["promoted", "refused"]
    assert (after[0].previous_version, after[1].previous_version) == (1, after[0].version)
    assert serving(registrar) == after[0].version
    rollback(registrar.name, reason="tidy")
    assert serving(registrar) == 1


def test_the_commands_tell_gates_and_exit_codes(registrar):
    promote_first(registrar, "good")
    registrar.register("weak")
    refused = command("promote", registrar.name, "--reason", "try")
    out, err = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert "failed" in out
    assert err == f"error: refused: better\n  where: {registrar.name}/2\n"
    nothing = command("promote", registrar.name)
    assert "Missing option '--reason'" in nothing.communicate(timeout=60)[1]
    assert nothing.returncode == 2


@pytest.mark.parametrize("name", ["standard", "refresh"])
def test_the_choices_of_the_repository_are_valid(name):
    assert load_promotion_config(name).name == name


class TestTheLog:
    """In a store of its own, since it is broken here."""

    @pytest.fixture
    def broken(self, registry_home, flowsheet_home, registrar, monkeypatch):
        import shutil

        promote_first(registrar, "weak")
        promote_first(registrar, "good")
        rollback(registrar.name, reason="x")
        shutil.copytree(registry_home, flowsheet_home)
        monkeypatch.setenv("FLOWSHEET_HOME", str(flowsheet_home))
        client = connect()
        held = client.get_experiment_by_name(EXPERIMENT).experiment_id
        runs = {
            json.loads(r.data.tags["decision"])["number"]: r
            for r in client.search_runs([held], max_results=1000)
        }
        return client, [runs[number] for number in sorted(runs)]

    def test_a_decision_that_was_changed_is_noticed(self, broken):
        client, runs = broken
        for place in (-2, -1):
            run = runs[place]
            text = run.data.tags["decision"]
            client.set_tag(run.info.run_id, "decision", text.replace('"actor":"', '"actor":"not '))
            with pytest.raises(CheckFailed, match="was changed or taken out"):
                load_decisions()
            client.set_tag(run.info.run_id, "decision", text)
            assert load_decisions()

    def test_a_decision_that_was_taken_out_is_noticed(self, broken, registrar):
        client, runs = broken
        for place in (0, len(runs) // 2, -1):
            client.delete_run(runs[place].info.run_id)
            with pytest.raises(CheckFailed, match="was changed or taken out"):
                rollback(registrar.name, reason="try")
            client.restore_run(runs[place].info.run_id)
            assert len(load_decisions()) == len(runs)

    def test_a_log_that_was_deleted_is_noticed(self, broken):
        client, _ = broken
        client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
        with pytest.raises(CheckFailed, match="was changed or taken out"):
            load_decisions()

    def test_a_decision_that_a_killed_server_was_told_twice_counts_once(self, broken):
        client, runs = broken
        before, run = load_decisions(), runs[-1]
        client.create_run(run.info.experiment_id, tags=run.data.tags)
        assert load_decisions() == before

    def test_a_decision_that_cannot_be_read_is_said(self, broken):
        client, runs = broken
        client.set_tag(runs[-1].info.run_id, "decision", "{}")
        with pytest.raises(CheckFailed, match="a decision cannot be read"):
            load_decisions()
