"""Every chart is drawn from plain frames, also from few and odd values, and shows names as text."""

import json
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from flowsheet import charts
from flowsheet.charts.export import embed, page_scripts, script_sources

MARKUP_NAME = '</script><img src=x onerror=alert(1)>&"'
MODELS = ["lstm", MARKUP_NAME]


def curve(ys):
    xs = np.linspace(0.1, 0.9, len(ys))
    return pl.concat([pl.DataFrame({"model": model, "x": xs, "y": ys}) for model in MODELS])


def bins():
    limits = [
        pl.Series("low", [0.0, 0.3]),
        pl.Series("high", [0.2, 0.6]),
        pl.Series("rows", [9, 7]),
    ]
    return curve([0.0, 0.5]).with_columns(*[pl.concat([s, s]) for s in limits])


def estimates(values):
    names = [f"name {i}" for i in range(len(values))]
    low = [v - 0.1 for v in values]
    high = [v + 0.1 for v in values]
    return pl.DataFrame({"name": names, "value": values, "low": low, "high": high, "count": 5})


def risks():
    parts = {"time": [1.0, 2.0], "risk": [0.1, 0.6], "is_alert": [False, True]}
    return pl.concat(
        [pl.DataFrame({**parts, "model": model, "threshold": 0.3}) for model in MODELS]
    )


MEASUREMENTS = pl.DataFrame(
    {"time": [0.5, 1.5], "variable": "Lactate, mmol/L", "value": [1.0, 4.1]}
)
DOSES = pl.DataFrame(
    {"start": [0.5], "end": [1.5], "drug": ["insulin"], "amount": [4.0], "text": ["4 units"]}
)
NO_DOSES = DOSES.clear()
CHARTS = {
    "roc": lambda: charts.roc(curve([0.2, 0.9]), MODELS, {"lstm": "AUROC 0.8"}),
    "precision_recall": lambda: charts.precision_recall(curve([0.9, 0.1]), MODELS, 0.05),
    "calibration": lambda: charts.calibration(bins(), MODELS),
    "calibration_without_events": lambda: charts.calibration(
        bins().with_columns(pl.lit(0.0).alias("y"), pl.lit(None, pl.Float64).alias("high")), MODELS
    ),
    "decision_curve": lambda: charts.decision_curve(curve([0.01, -0.2]), MODELS, 0.02),
    "lead_time": lambda: charts.lead_time(
        pl.DataFrame({"model": MODELS, "lead": [0.0, 1.0], "share": [0.5, 0.2], "onsets": [4, 4]}),
        MODELS,
        "days",
    ),
    "forest": lambda: charts.forest(estimates([0.7, float("nan")]), "AUROC"),
    "forest_of_nothing": lambda: charts.forest(estimates([float("nan")]), "AUROC"),
    "differences": lambda: charts.differences(
        pl.DataFrame(
            {
                "model_a": ["lstm"],
                "model_b": [MARKUP_NAME],
                "difference": [0.1],
                "low": [0.0],
                "high": [0.2],
                "verdict": ["better"],
            }
        ),
        "AUROC",
    ),
    "subgroups": lambda: charts.subgroups(
        estimates([0.7, 0.8]).select(
            "value",
            "low",
            "high",
            "count",
            grouping=pl.lit("Sex"),
            group="name",
            model=pl.lit("lstm"),
        ),
        MODELS,
        "AUROC",
    ),
    "bars": lambda: charts.bars(
        pl.DataFrame({"name": MODELS, "value": [0.2, 0.0]}), "Share", end=1
    ),
    "tuning_history": lambda: charts.tuning_history(
        pl.DataFrame({"number": [0, 1, 2], "state": "complete", "value": [0.1, 0.1, 0.3]}), "AUPRC"
    ),
    "training_curve": lambda: charts.training_curve(
        pl.DataFrame({"epoch": [1, 2], "score": [0.1, 0.2]})
    ),
    "distribution": lambda: charts.distribution(
        pl.DataFrame({"model": ["reference", "current"], "x": [1.0, 2.0], "y": 1.0, "count": 3}),
        "Heart rate",
    ),
    "stay_timeline": lambda: charts.stay_timeline(
        risks(), MEASUREMENTS, DOSES, models=MODELS, onset=2.5, end=3.0
    ),
    "stay_without_doses_and_onset": lambda: charts.stay_timeline(
        risks(), MEASUREMENTS.clear(), NO_DOSES, models=MODELS, onset=None, end=3.0
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_and_embedded_without_its_names_becoming_markup(name):
    html = str(embed(CHARTS[name]()))
    drawing = html[html.index("<svg") : html.index("</svg>") + len("</svg>")]
    ElementTree.fromstring(drawing)
    assert "<img" not in html
    assert html.count("</script>") == 1
    data = html[html.index('class="chart-data">') + len('class="chart-data">') : -len("</script>")]
    json.loads(data)


@pytest.mark.parametrize("name", ["roc", "stay_timeline"])
def test_equal_data_give_equal_charts(name):
    assert embed(CHARTS[name]()) == embed(CHARTS[name]())


@pytest.mark.parametrize("name", CHARTS)
def test_drawings_have_no_ids_which_could_be_those_of_another_drawing(name):
    assert ' id="' not in charts.to_svg(CHARTS[name]())


def test_the_best_models_calibration_is_shown_first():
    many = [f"model_{i}" for i in range(5)]
    points = pl.concat([bins().filter(model="lstm").with_columns(model=pl.lit(m)) for m in many])
    shown = charts.calibration(points, many).to_dict()["params"][0]["value"]
    assert shown == [{"model": model} for model in many[:3]]


def test_few_trials_have_no_history():
    trials = pl.DataFrame({"number": [0, 1], "state": "complete", "value": [0.1, 0.2]})
    assert charts.tuning_history(trials, "AUPRC") is None


def test_the_scripts_cannot_end_their_element_and_are_allowed_by_their_digests():
    scripts = page_scripts()
    assert len(scripts) == len(script_sources().split()) == 2
    assert all("</script" not in script and "<!--" not in script for script in scripts)


def test_values_that_are_not_finite_become_null():
    svg = charts.to_svg(charts.forest(estimates([0.7, float("inf")]), "AUROC"))
    assert "NaN" not in svg
    assert "Infinity" not in svg


@pytest.mark.parametrize(("first", "name"), [(["a", "a"], "b"), (["a", "c"], "a - b")])
def test_differences_of_one_model_name_the_others(first, name):
    numbers = {"difference": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}
    pairs = pl.DataFrame({"model_a": first, "model_b": ["b", "d"], **numbers, "verdict": "better"})
    drawn = json.dumps(charts.differences(pairs, "AUROC").to_dict())
    assert f'"name": "{name}"' in drawn
