"""The label agrees with the reference on stays of the open MIMIC-III demo, hour by hour."""

from __future__ import annotations

import polars as pl
import pytest

from flowsheet.cohort.engine import batches
from flowsheet.cohort.sepsis3 import LabelInputs, Sepsis3Labels, Sepsis3Options, label
from flowsheet.cohort.sources import mimic3
from tests.cohort.sepsis3.records import compare_with_reference

pytestmark = pytest.mark.realdata

TABLES = ("stays", "events", "treatments", "antibiotics", "cultures")
USED = ["map", "gcs", "egcs", "mgcs", "vgcs", "po2", "fio2", "vent", "bili", "crea", "plt", "urine"]
USED += ["bladder_irrigant", "rrt", "o2sat"]


class Inputs(LabelInputs):
    def facts_of(self, stay_id):
        """One stay's rows as lists of dicts, table by table; the stay itself is one dict."""
        tables = [getattr(self, name).filter(stay_id=stay_id).to_dicts() for name in TABLES]
        (stay,), events, *others = tables
        return [stay, [event for event in events if event["variable"] in USED], *others]

    def label(self, options) -> Sepsis3Labels:
        return label(self, options)


@pytest.fixture(scope="module")
def inputs(data_dir):
    """The tables that the source passes to the label, for all stays of the demo."""
    calls = []

    def record_inputs(inputs, options):
        calls.append(Inputs(*(getattr(inputs, name) for name in TABLES)))
        return label(inputs, options)

    patch = pytest.MonkeyPatch()
    patch.setattr(batches, "label", record_inputs)
    list(mimic3.Mimic3(data_dir / "mimic3-demo", mimic3.Mimic3Options()).batches())
    patch.undo()
    return calls[0]


@pytest.mark.parametrize(
    "options",
    [
        Sepsis3Options(),
        Sepsis3Options(baseline="observed", end="organs"),
        Sepsis3Options(convention="mimic_code", end="fixed"),
        Sepsis3Options(convention="ricu"),
    ],
    ids=["default", "observed", "mimic_code", "ricu"],
)
def test_some_stays_are_as_in_the_reference(inputs, options):
    labels = inputs.label(options)
    hours = (pl.col("discharged_at") - pl.col("admitted_at")).dt.total_hours()
    short = inputs.stays.filter(hours < 100)  # the reference is slow
    is_short = pl.col("stay_id").is_in(short["stay_id"].implode())
    septic = labels.episodes.filter(is_short)["stay_id"].unique().sort()[::8].to_list()
    chosen = sorted({*septic, *short["stay_id"].sort()[::16].to_list()})
    assert len(chosen) > 8
    for stay_id in chosen:
        compare_with_reference(labels, *inputs.facts_of(stay_id), options)


def test_both_chart_systems_have_episodes(inputs, data_dir):
    """CareVue's antibiotics are only orders by the day; its stays must not all be negative."""
    systems = pl.read_csv(data_dir / "mimic3-demo" / "ICUSTAYS.csv.gz").select(
        stay_id="icustay_id", system="dbsource"
    )
    episodes = inputs.label(Sepsis3Options()).episodes
    septic = episodes.select("stay_id").unique().with_columns(septic=1)
    stays = inputs.stays.join(systems, on="stay_id").join(septic, on="stay_id", how="left")
    share = dict(stays.group_by("system").agg(pl.col("septic").fill_null(0).mean()).iter_rows())
    assert set(share) == {"carevue", "metavision"}
    assert min(share.values()) > 0.2


def test_the_counts_are_consistent(inputs):
    counts = inputs.label(Sepsis3Options()).counts
    assert counts["stays"] == inputs.stays.height
    assert counts["stays"] >= counts["stays with suspected infection"]
    assert counts["stays with suspected infection"] >= counts["stays with an episode"] > 20
    assert counts["days"] >= counts["septic days"] > counts["episodes"]
