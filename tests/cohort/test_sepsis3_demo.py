"""The label agrees with the second computation on stays of the open MIMIC-III demo, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pytest

from flowsheet.cohort.sepsis3 import Sepsis3Labels, Sepsis3Options, label
from flowsheet.cohort.sources import mimic3
from tests.cohort import sepsis3_oracle as oracle

pytestmark = pytest.mark.realdata

KINDS = ("stays", "events", "treatments", "antibiotics", "cultures")
READ = ["map", "gcs", "egcs", "mgcs", "vgcs", "po2", "fio2", "vent", "bili", "crea", "plt", "urine"]


@dataclass
class Frames:
    stays: pl.DataFrame
    events: pl.DataFrame
    treatments: pl.DataFrame
    antibiotics: pl.DataFrame
    cultures: pl.DataFrame

    def facts(self, stay_id):
        """One stay's rows as plain Python."""
        stay, *rest = (getattr(self, kind).filter(stay_id=stay_id).to_dicts() for kind in KINDS)
        events, *others = rest
        return stay[0], [e for e in events if e["variable"] in READ], *others

    def labelled(self, options) -> Sepsis3Labels:
        return label(*(getattr(self, kind) for kind in KINDS), options)


@pytest.fixture(scope="module")
def frames(data_dir):
    """What the source hands to the label, for all stays of the demo."""
    seen = []

    def spy(*given):
        seen.append(Frames(*given[:-1]))
        return label(*given)

    patch = pytest.MonkeyPatch()
    patch.setattr(mimic3, "label", spy)
    list(mimic3.Mimic3(data_dir / "mimic3-demo", mimic3.Mimic3Options()).batches())
    patch.undo()
    return seen[0]


@pytest.mark.parametrize(
    "options",
    [
        Sepsis3Options(),
        Sepsis3Options(baseline="presumed_zero", end="organs"),
        Sepsis3Options(criterion="level", confirm_after_hours=0, end="fixed"),
    ],
    ids=["default", "zero", "level"],
)
def test_two_dozen_stays(frames, options):
    got = frames.labelled(options)
    septic = got.episodes["stay_id"].unique().sort()[::4].to_list()
    chosen = sorted({*septic, *frames.stays["stay_id"].sort()[::12].to_list()})
    assert len(chosen) > 18
    for stay_id in chosen:
        stay, events, treatments, antibiotics, cultures = frames.facts(stay_id)
        hours = oracle.sofa(stay, events, treatments, options)
        assert got.sofa.filter(stay_id=stay_id).drop("stay_id").to_dicts() == hours
        suspected = got.suspicions.filter(stay_id=stay_id)
        expected = oracle.suspicions(stay, antibiotics, cultures, options)
        assert dict(zip(suspected["time"], suspected["known_at"], strict=True)) == expected
        found = oracle.episodes(stay, events, treatments, antibiotics, cultures, options)
        assert got.episodes.filter(stay_id=stay_id).drop("stay_id").rows() == found


def test_both_chart_systems_are_labelled(frames, data_dir):
    """CareVue's antibiotics are only ordered, by the day; its stays must not be negative for that."""
    raw = pl.read_csv(data_dir / "mimic3-demo" / "ICUSTAYS.csv.gz").select(
        stay_id="icustay_id", system="dbsource"
    )
    septic = (
        frames.labelled(Sepsis3Options()).episodes.select("stay_id").unique().with_columns(septic=1)
    )
    stays = frames.stays.join(raw, on="stay_id").join(septic, on="stay_id", how="left")
    share = dict(stays.group_by("system").agg(pl.col("septic").fill_null(0).mean()).iter_rows())
    assert set(share) == {"carevue", "metavision"}
    assert min(share.values()) > 0.2


def test_the_counts_say_what_was_met(frames):
    counts = frames.labelled(Sepsis3Options()).counts
    assert counts["stays"] == frames.stays.height
    assert (
        counts["stays"]
        >= counts["stays with suspected infection"]
        >= counts["stays with an episode"]
        > 20
    )
    assert counts["days"] >= counts["septic days"] > counts["episodes"]
