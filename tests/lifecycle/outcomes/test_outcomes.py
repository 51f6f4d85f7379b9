"""Answers of a server, judged by what became of the patients: right figures, nothing in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.cli import cli
from flowsheet.cohort.extract import Extract
from flowsheet.config import CohortConfig, ModelConfig, PromotionConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.evaluation_section import render_home_section
from flowsheet.lifecycle.deployment.external_evaluation import evaluate_elsewhere
from flowsheet.lifecycle.deployment.gates import check_live
from flowsheet.lifecycle.deployment.promotion import evaluate_candidate
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.model_card.card import render_card
from flowsheet.lifecycle.outcomes.outcomes import judge_outcomes, to_json
from flowsheet.prediction.limits import Limits
from flowsheet.serving.answer_files import read_answers
from flowsheet.serving.answer_log import AnswerLog
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import PredictRequest, ScoredBatch, Scorer
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.evaluation_runs import list_evaluations
from flowsheet.tracking.live_verdicts import find_verdict
from flowsheet.tracking.store import connect
from tests.documented_keys import check_documented
from tests.lifecycle.deployment.growing_ward import Ward, configure, extract_folder, run
from tests.request_bodies import encode_body, select_stays

NAME = "live_ward-logistic"
LATER = datetime(2040, 1, 1)
"""Long after the last stay."""
MODELS = {
    "logistic": ModelConfig(kind="logistic_regression"),
    "prevalence": ModelConfig(kind="prevalence"),
}


@pytest.fixture(scope="module")
def store(registry_home):
    """The state folder, for fixtures of the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(registry_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield registry_home


@pytest.fixture(autouse=True)
def state_folder(store, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(store))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def config(store, tmp_path_factory):
    folder = Ward(260).write(tmp_path_factory.mktemp("a"))
    return configure("live_ward", folder, models=MODELS)


@pytest.fixture(scope="module")
def versions(config) -> dict[int, LoadedModel]:
    """Version 1 knows the heart rate, version 2 nothing but the prevalence."""
    run(config)
    source = model_registry.get_version("live_ward-prevalence", 1)
    model_registry.copy_version(source, NAME)
    loaded = {}
    for number in (1, 2):
        version = model_registry.get_version(NAME, number)
        package = registered_packages.load_package(version)
        loaded[number] = LoadedModel(NAME, number, "champion", package, datetime.now(UTC))
    return loaded


@pytest.fixture(scope="module")
def extract(store, tmp_path_factory) -> Extract:
    """The patients of later months, after they have left."""
    folder = Ward(160, first_stay=1000).write(tmp_path_factory.mktemp("b"))
    cohort = CohortConfig(name="extract", source="extract", path=str(folder))
    return prepare.open_extract(prepare.ingest_cohort(cohort, print))


def serve(folder, tables, champion: LoadedModel, challenger: LoadedModel | None = None) -> None:
    """Answer a request about each stay with its whole record, as a server does."""
    batches: list[ScoredBatch] = []
    scorer = Scorer(lambda: champion, Limits(), batches.append)
    stays = tables.stays["stay_id"].to_list()
    requests = [
        PredictRequest(encode_body(select_stays(tables, stay)), f"r{stay}") for stay in stays
    ]
    for reply in scorer.score_requests(requests):
        assert hasattr(reply, "steps"), reply.body
    log = AnswerLog(folder, champion.name, Metrics(), keep_subjects=True)
    for batch in batches:
        log.add(batch)
        if challenger is not None:
            risks = challenger.model_package.predict(batch.batch.tables)
            log.add(replace(batch, model=challenger, predictions=risks), is_shadow=True)
    log.start()
    log.close(30)


@pytest.fixture(scope="module")
def answers(versions, extract, tmp_path_factory):
    """Version 2 answers, version 1 is its shadow."""
    folder = tmp_path_factory.mktemp("answers")
    serve(folder, extract.tables(), versions[2], challenger=versions[1])
    return folder


@pytest.fixture(scope="module")
def outcomes(answers, extract):
    return judge_outcomes(answers, extract.path, print, until=LATER)


def test_figures_equal_those_of_evaluate_and_of_an_independent_computation(
    answers, outcomes, versions, extract, tmp_path_factory
):
    """Every step of every stay was answered, so nothing is missing."""
    folder = tmp_path_factory.mktemp("logistic")
    serve(folder, extract.tables(), versions[1])
    (judged,) = judge_outcomes(folder, extract.path, print, until=LATER).versions
    elsewhere = evaluate_elsewhere([f"{NAME}/1"], extract.path, print)
    assert judged.evidence.leaderboard.equals(elsewhere.evidence.leaderboard)
    rows = read_answers(folder).join(label_days(extract), on=["stay_id", "time"])
    y, p, alert = (rows[name].to_numpy() for name in ("y", "risk", "alert"))
    figures = {
        "auroc": roc_auc_score(y, p),
        "auprc": average_precision_score(y, p),
        "alert_ppv": y[alert].mean() if alert.any() else np.nan,
        "alerts_per_patient_day": alert.mean(),
    }
    for metric, value in figures.items():
        found = judged.evidence.leaderboard.filter(subset="all", metric=metric)["value"].item()
        assert found == pytest.approx(value, abs=1e-9, nan_ok=True), metric


def label_days(extract: Extract) -> pl.DataFrame:
    """stay_id, time, y: whether the patient is septic at some time of the next day."""
    tables = extract.tables()
    days = tables.stays.select(
        "stay_id",
        time=pl.datetime_ranges(
            pl.col("admitted_at").dt.offset_by("1d"),
            pl.col("discharged_at").dt.offset_by("-1d"),
            "1d",
        ),
    ).explode("time")
    episodes = tables.episodes.select("stay_id", "onset", "end")
    in_window = (pl.col("onset") <= pl.col("time").dt.offset_by("1d")) & (
        pl.col("end") > pl.col("time")
    )
    return (
        days.join(episodes, on="stay_id", how="left")
        .group_by("stay_id", "time")
        .agg(y=in_window.fill_null(value=False).any().cast(pl.Int8))
    )


def test_a_challenger_in_the_shadow_gets_a_verdict_that_a_gate_asks_for(outcomes, extract):
    (verdict,) = outcomes.verdicts
    assert (verdict.champion, verdict.challenger, verdict.verdict) == (2, 1, "better")
    challenger = model_registry.get_version(NAME, 1)
    assert find_verdict(challenger) == verdict
    difference, low, high = verdict.differences["auroc"]
    assert 0 < low < difference < high
    elsewhere = evaluate_elsewhere([f"{NAME}/1"], extract.path, print).evidence.leaderboard
    alone = elsewhere.filter(metric="auroc", subset=verdict.subset)["value"].item()
    assert difference == pytest.approx(alone - 0.5, abs=1e-12)
    run_metrics = connect().get_run(verdict.run_id).data.metrics
    assert run_metrics["live.difference.auroc"] == pytest.approx(difference)

    champion = model_registry.get_version(NAME, 2)
    passed = ask(challenger, champion, live_verdict="better")
    assert passed.passed, passed.summary
    assert f"{verdict.rows:,} live predictions" in passed.summary
    missing = ask(champion, challenger, live_verdict="not_worse", margin=0.01)
    assert not missing.passed
    assert "no verdict" in missing.summary
    moved = ask(challenger, replace(champion, version=3), live_verdict="better")
    assert not moved.passed
    assert "which is not the champion" in moved.summary
    assert ask(challenger, None, live_verdict="better").passed
    assert list(check_live(challenger, champion, PromotionConfig(name="g"))) == []


def ask(candidate, champion, **changes: object):
    """The gate's result."""
    (gate,) = check_live(candidate, champion, PromotionConfig(name="g", **changes))
    return gate


@pytest.mark.slow
def test_a_promotion_has_the_gate(outcomes):
    config = PromotionConfig(
        name="g", resamples=100, latency_ms=60_000, live_verdict="better", margin=0.0
    )
    _, gates = evaluate_candidate(NAME, 1, config)
    assert "live verdict" in {gate.name for gate in gates}


@pytest.mark.slow
def test_each_version_is_judged_by_its_own_answers(versions, extract, tmp_path):
    tables = extract.tables()
    stays = tables.stays["stay_id"].to_list()
    serve(tmp_path, select_stays(tables, *stays[:80]), versions[1])
    serve(tmp_path, select_stays(tables, *stays[80:]), versions[2])
    result = judge_outcomes(tmp_path, extract.path, print, until=LATER)
    judged = {v.version: set(v.rows.predictions.rows["stay_id"]) for v in result.versions}
    assert judged == {1: set(stays[:80]), 2: set(stays[80:])}
    for version in result.versions:
        recorded = list_evaluations(version.model.version)[-1]
        assert recorded.run_id == version.run_id
        assert recorded.details.kind == "answers"
    assert "answers of" in render_card(f"{NAME}/1")


def test_what_cannot_be_judged_is_counted_and_named(versions, extract, tmp_path):
    tables = extract.tables()
    stays = tables.stays["stay_id"].to_list()
    serve(tmp_path, tables, versions[1])
    (file,) = tmp_path.rglob("*.parquet")
    rows = pl.read_parquet(file)
    day = timedelta(days=1)

    def change(stay: int, column: str, value: pl.Expr) -> None:
        nonlocal rows
        is_theirs = pl.col("stay_id") == stay
        changed = pl.when(is_theirs).then(value).otherwise(column)
        rows = rows.with_columns(changed.cast(rows.schema[column]).alias(column))

    change(stays[0], "subject_id", pl.lit(1))
    change(stays[1], "time", pl.col("time") + timedelta(minutes=7))
    change(
        stays[2],
        "time",
        pl.when(pl.col("step") == 4).then(pl.col("time") + 9 * day).otherwise("time"),
    )
    change(stays[3], "stay_id", pl.lit(99))
    rows.write_parquet(file)
    left = tables.stays.sort("discharged_at")["discharged_at"][-3]
    (judged,) = judge_outcomes(tmp_path, extract.path, print, until=left).versions
    reasons = {unjudged.reason: unjudged for unjudged in judged.rows.unjudged}
    assert reasons["the stay is another subject's in the extract"].first_stays == (stays[0],)
    at_other_times = "no step of the stay in the extract is predicted at that time"
    assert reasons[at_other_times].first_stays == (stays[1],)
    incomplete = f"the stay is not complete in the extract, whose record ends {left}"
    open_stays = reasons[incomplete].first_stays
    late = tables.stays.filter(pl.col("discharged_at") >= left)["stay_id"].to_list()
    assert open_stays == tuple(sorted([stays[2], *late]))
    assert reasons["the extract has no such stay"].first_stays == (99,)
    unjudged = sum(unjudged.answers for unjudged in judged.rows.unjudged)
    assert unjudged + judged.rows.answers == judged.counted == rows.height
    assert not set(stays[:4]) & set(judged.rows.predictions.rows.filter("scored")["stay_id"])


@pytest.mark.slow
def test_subjects_on_whom_the_model_was_developed_are_left_out(versions, config, tmp_path):
    home = Extract.open(extract_folder(config))
    serve(tmp_path, home.tables(), versions[1])
    (judged,) = judge_outcomes(tmp_path, home.path, print, until=LATER).versions
    reasons = {unjudged.reason for unjudged in judged.rows.unjudged}
    assert "the model was developed on the subject" in reasons
    figures = judged.home.figures.filter(subset="all", metric="auroc").row(0, named=True)
    assert figures["here"] == figures["home"]


def test_answers_of_another_model_of_that_number_are_refused(versions, extract, tmp_path):
    serve(
        tmp_path,
        select_stays(extract.tables(), *extract.tables().stays["stay_id"].head(3)),
        versions[1],
    )
    (file,) = tmp_path.rglob("*.parquet")
    pl.read_parquet(file).with_columns(threshold=pl.lit(0.123)).write_parquet(file)
    with pytest.raises(CheckFailed, match="another model of that name and number"):
        judge_outcomes(tmp_path, extract.path, print)


@pytest.mark.slow
def test_steps_that_nobody_asked_about_do_not_count(versions, extract, tmp_path):
    serve(tmp_path, extract.tables(), versions[1])
    (file,) = tmp_path.rglob("*.parquet")
    pl.read_parquet(file).filter(pl.col("step") != 2).write_parquet(file)
    (judged,) = judge_outcomes(tmp_path, extract.path, print).versions
    assert not judged.rows.is_complete
    scored = judged.rows.predictions.rows.filter("scored")
    assert 2 not in scored["step"]
    assert scored.height == judged.rows.answers


def test_each_of_several_versions_has_its_heading(outcomes):
    (judged,) = outcomes.versions
    both = {"version 1": judged.home, "version 2": judged.home}
    html = render_home_section(both, judged.evidence).html
    assert "<h3>version 1</h3>" in html
    assert "<h3>version 2</h3>" in html


def test_the_result_has_the_documented_keys_and_a_page(outcomes):
    answer = to_json(outcomes)
    check_documented("outcomes", answer)
    assert answer["versions"]["2"]["judged"] > 300
    assert answer["verdicts"][0]["verdict"] == "better"
    text = outcomes.report.read_text(encoding="utf-8")
    assert text.index("Answers and outcomes") < text.index("Here and at home")
    assert "Challenger 1 against champion 2" in text


@pytest.mark.slow
def test_the_command_prints_and_writes_the_page(answers, extract, tmp_path):
    page = tmp_path / "outcomes.html"
    arguments = ["outcomes", str(answers), str(extract.path), "--out", str(page)]
    table = CliRunner().invoke(cli, arguments)
    assert table.exit_code == 0, table.output
    assert "version 1 is better than version 2" in " ".join(table.stdout.split())
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert json.loads(done.stdout)["report"] == str(page)


def test_no_outcome_yet_is_an_error_in_words(versions, extract, tmp_path):
    few = select_stays(extract.tables(), extract.tables().stays["stay_id"][0])
    serve(tmp_path, few, versions[1])
    done = CliRunner().invoke(
        cli, ["outcomes", str(tmp_path), str(extract.path), "--until", "2030-01-02"]
    )
    assert isinstance(done.exception, CheckFailed)
    assert "not complete" in done.exception.what


@pytest.fixture
def cut(extract, tmp_path):
    """The extract as it was exported while patients were there: their stays end with the record."""
    end = extract.tables().stays["discharged_at"].quantile(0.6, "lower")
    assert isinstance(end, datetime)
    folder = tmp_path / "cut"
    folder.mkdir()
    tables = extract.tables()
    stays = tables.stays.filter(pl.col("admitted_at") < end - timedelta(days=2))
    until = pl.min_horizontal("discharged_at", pl.lit(end))
    stays.with_columns(discharged_at=until).write_parquet(folder / "stays.parquet")
    for name, time in (("events", "time"), ("episodes", "known_at")):
        rows = getattr(tables, name).join(stays, on="stay_id", how="semi")
        known = rows.filter(pl.col(time) < end)
        if name == "episodes":
            known = known.with_columns(end=pl.min_horizontal("end", pl.lit(end)))
        known.write_parquet(folder / f"{name}.parquet")
    cohort = CohortConfig(name="cut", source="extract", path=str(folder))
    return Extract.open(prepare.open_extract(prepare.ingest_cohort(cohort, print)).path)


def test_stays_that_are_open_when_the_record_ends_are_no_negatives(
    versions, extract, cut, tmp_path
):
    folder = tmp_path / "answers"
    serve(folder, cut.tables(), versions[1])
    result = judge_outcomes(folder, cut.path, print)
    (judged,) = result.versions
    stays = cut.tables().stays
    assert result.until == stays["discharged_at"].max()
    is_open = stays.filter(pl.col("discharged_at") == result.until)["stay_id"].to_list()
    assert len(is_open) > 5
    reasons = {unjudged.reason: unjudged for unjudged in judged.rows.unjudged}
    incomplete = f"the stay is not complete in the extract, whose record ends {result.until}"
    assert reasons[incomplete].stays == len(is_open)
    scored = judged.rows.predictions.rows.filter("scored")
    assert not set(scored["stay_id"]) & set(is_open)
    times = (
        read_answers(folder)
        .select("stay_id", "step", "time")
        .join(label_days(extract), on=["stay_id", "time"])
    )
    later = scored.join(times, on=["stay_id", "step"], suffix="_later")
    assert later.height == scored.height
    assert later["y"].to_list() == later["y_later"].to_list()


def test_a_time_of_the_export_with_a_zone_is_refused(answers, extract):
    with pytest.raises(UsageError, match="time zone"):
        judge_outcomes(answers, extract.path, print, until=LATER.replace(tzinfo=UTC))
