"""Registered versions on other extracts: figures that are right, beside those at home."""

from __future__ import annotations

import json

import polars as pl
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.cli import cli
from flowsheet.config import CohortConfig, ModelConfig, PromotionConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.evidence import Evidence
from flowsheet.lifecycle.deployment.batch_scoring import score
from flowsheet.lifecycle.deployment.external_evaluation import evaluate_elsewhere
from flowsheet.lifecycle.deployment.promotion import evaluate_candidate
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.model_card.card import render_card
from flowsheet.tracking import model_registry
from flowsheet.tracking.run_records import load_run_record
from flowsheet.tracking.store import connect
from flowsheet.windows.sequences import Sequences
from tests.documented_keys import check_documented
from tests.lifecycle.deployment.growing_ward import Ward, configure, extract_folder, run

MODELS = {
    "logistic": ModelConfig(kind="logistic_regression"),
    "bayes": ModelConfig(kind="naive_bayes"),
}


def ingest(folder):
    cohort = CohortConfig(name="extract", source="extract", path=str(folder))
    return prepare.open_extract(prepare.ingest_cohort(cohort, print)).path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def config(store, tmp_path_factory):
    """An experiment whose models are registered."""
    folder = Ward(260, lactate_since=0).write(tmp_path_factory.mktemp("a"))
    config = configure("ward", folder, models=MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(store))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run(config)
    return config


@pytest.fixture
def trained(config, store, monkeypatch):
    """The experiment's configuration, in its store."""
    monkeypatch.setenv("FLOWSHEET_HOME", str(store))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return config


@pytest.fixture
def elsewhere(trained, tmp_path):
    """Other patients under the same numbers, who come without lactate."""
    return ingest(Ward(200, seed=7, site="b").write(tmp_path / "b"))


def home_evidence(tmp_path):
    record = load_run_record("ward-logistic/1", tmp_path)
    return Evidence.load(record.download_artifacts("evidence", tmp_path))


def test_on_the_home_extract_the_figures_are_the_experiments_own(trained, tmp_path):
    references = ["ward-bayes/1", "ward-logistic/1"]
    result = evaluate_elsewhere(references, extract_folder(trained), print)
    expected = home_evidence(tmp_path)
    for name in ("leaderboard", "pairs", "curves", "lead_times"):
        assert getattr(result.evidence, name).equals(getattr(expected, name)), name
    assert result.evidence.about == expected.about
    alone = evaluate_elsewhere(["ward-logistic/1"], extract_folder(trained), print)
    own = expected.leaderboard.filter(model="logistic")
    assert alone.evidence.leaderboard.equals(own)
    figures = alone.comparisons["logistic"].figures
    assert figures["here"].equals(figures["home"])
    assert "left out" in alone.comparisons["logistic"].differences[0].summary


def test_elsewhere_the_figures_equal_an_independent_computation(trained, elsewhere):
    version = model_registry.get_version("ward-logistic", 1)
    result = evaluate_elsewhere([version.reference], elsewhere, print)
    scores = pl.read_parquet(score(version.reference, elsewhere, None, print).file)
    rows = scores.join(targets(elsewhere, trained), on=["stay_id", "step"]).filter("scored")
    for subset, frame in (("all", rows), ("new_onsets", rows.filter(~pl.col("in_state")))):
        y, p = frame["y"].to_numpy(), frame["risk"].to_numpy()
        alert = frame["alert"].to_numpy()
        f_measure = 2 * (alert & (y == 1)).sum() / (alert.sum() + y.sum())
        for metric, value in (
            ("auroc", roc_auc_score(y, p)),
            ("auprc", average_precision_score(y, p)),
            ("f_measure", f_measure),
        ):
            found = result.evidence.leaderboard.filter(subset=subset, metric=metric)
            assert found["value"].item() == pytest.approx(value, abs=1e-9), (subset, metric)
    assert scores["threshold"].unique().to_list() == [
        result.evidence.about["thresholds"]["logistic"]
    ]
    differences = {d.topic: d.summary for d in result.comparisons["logistic"].differences}
    assert "lact" in differences["variables"]
    assert "taken for other people" in differences["subjects"]
    assert "at home" in differences["prevalence"]


def targets(folder, config):
    """The rows that the task scores."""
    extract = prepare.ingest_cohort(
        CohortConfig(name="extract", source="extract", path=str(folder)), print
    )
    windows = prepare.build_windows(extract, config.task, config.features)
    sequences = Sequences.load(windows.folder / "sequences")
    columns = {name: getattr(sequences, name) for name in ("step", "y", "scored", "in_state")}
    return pl.DataFrame({"stay_id": sequences.stay_id[sequences.row_stay], **columns})


def test_the_evaluation_is_recorded_below_the_version_and_in_its_card(trained, elsewhere):
    result = evaluate_elsewhere(["ward-logistic/1", "ward-bayes/1"], elsewhere, print)
    again = evaluate_elsewhere(["ward-logistic/1", "ward-bayes/1"], elsewhere, print)
    assert again.run_ids == result.run_ids
    version = model_registry.get_version("ward-logistic", 1)
    evaluation = connect().get_run(result.run_ids["logistic"])
    assert evaluation.data.tags["mlflow.parentRunId"] == version.run_id
    assert evaluation.data.tags["flowsheet.model_version"] == "ward-logistic/1"
    assert "external.auroc" in evaluation.data.metrics
    assert result.evidence.pairs.filter(metric="auroc", subset="all").height == 1
    card = render_card("ward-logistic/1")
    assert result.summaries["logistic"].split("[")[0].strip() in card
    page = result.report.read_text(encoding="utf-8")
    assert page.index("Here and at home") < page.index("Leaderboard")

    config = PromotionConfig(
        name="asks", resamples=100, latency_ms=60_000, external_evaluations=1, external_floor=0.99
    )
    _, gates = evaluate_candidate("ward-logistic", 1, config)
    external = next(gate for gate in gates if gate.name == "external evaluation")
    assert not external.passed
    assert "1 other extracts" in external.summary


def test_the_command_prints_json(trained, elsewhere):
    done = CliRunner().invoke(cli, ["evaluate", "ward-logistic/1", str(elsewhere), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    check_documented("evaluate", answer)
    assert answer["models"]["logistic"]["differences"]
    figures = {(f["subset"], f["metric"]): f for f in answer["models"]["logistic"]["figures"]}
    assert 0 < figures["new_onsets", "auroc"]["here"] < figures["new_onsets", "auroc"]["home"] < 1


def test_an_extract_without_outcomes_is_refused(trained, tmp_path):
    folder = Ward(20, seed=8).write(tmp_path / "c")
    (folder / "episodes.parquet").unlink()
    with pytest.raises(CheckFailed, match="no outcome is known"):
        evaluate_elsewhere(["ward-logistic/1"], ingest(folder), print)
