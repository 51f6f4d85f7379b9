"""The simulated ward as a source: its tables tell exactly what the law did, and nothing of the law."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import logit

from flowsheet.cohort.catalogue import ranges
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.base import Source, StayBatch
from flowsheet.cohort.sources.simulated import SimulatedWard, true_curves
from flowsheet.cohort.sources.simulated import dynamics as _ward
from flowsheet.cohort.sources.simulated.process import (
    DRUGS,
    VARIABLES,
    ResponseLaw,
    WardOptions,
)
from flowsheet.compose import compose_cohort
from flowsheet.errors import UsageError
from flowsheet.testing.sources import SourceConformance

TABLES = ("stays", "events", "treatments", "episodes")
SMALL = {"min_steps": 5, "max_steps": 25}


def ward(**options: object) -> SimulatedWard:
    return SimulatedWard(None, WardOptions(**{**SMALL, **options}))


def tables(source: Source) -> dict[str, pl.DataFrame]:
    batches = list(source.batches())
    return {name: pl.concat(getattr(batch, name) for batch in batches) for name in TABLES}


class TestConformance(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return ward(stays=12)


@pytest.fixture(scope="module")
def grown() -> dict[str, pl.DataFrame]:
    return tables(ward(stays=600))


@pytest.mark.parametrize("stays", [1, 499, 500, 501])
def test_a_larger_ward_keeps_the_stays_of_a_smaller_one(grown, stays: int):
    for name, table in tables(ward(stays=stays)).items():
        assert_frame_equal(table, grown[name].filter(pl.col("stay_id") <= stays))
    oracle = ward(stays=600).oracle()
    assert_frame_equal(ward(stays=stays).oracle(), oracle.filter(pl.col("stay_id") <= stays))


def test_another_seed_is_another_ward(grown):
    other = tables(ward(stays=600, seed=2))
    for name in TABLES:
        assert not other[name].equals(grown[name]), name


def test_tables_come_in_the_contract_s_order(grown):
    assert grown["events"].equals(
        grown["events"].sort("stay_id", "time", "variable", "known_at", maintain_order=True)
    )
    assert grown["treatments"].equals(
        grown["treatments"].sort("stay_id", "start", "drug", maintain_order=True)
    )
    assert grown["episodes"].equals(grown["episodes"].sort("stay_id", "onset"))


@pytest.mark.parametrize("step_hours", [1, 6, 24])
def test_episodes_overlap_exactly_the_septic_steps(step_hours: int):
    options = WardOptions(stays=500, step_hours=step_hours, **SMALL)
    who = _ward.people(options, 0)
    what = _ward.course(options, who, 0)
    inside = np.arange(options.max_steps) < who.steps[:, None]
    told = np.zeros_like(what.y)
    spans = (
        tables(SimulatedWard(None, options))["episodes"]
        .join(
            pl.DataFrame({"stay_id": who.stay_id, "row": np.arange(500), "steps": who.steps}),
            on="stay_id",
        )
        .join(
            tables(SimulatedWard(None, options))["stays"].select("stay_id", "admitted_at"),
            on="stay_id",
        )
        .with_columns(
            (pl.col("onset", "end", "known_at") - pl.col("admitted_at")).dt.total_minutes()
            / 60
            / step_hours
        )
    )
    for row, onset, end, steps in spans.select("row", "onset", "end", "steps").iter_rows():
        k = np.arange(1, steps + 1)
        told[row, :steps] |= (onset <= k) & ((np.inf if end is None else end) > k - 1)
    np.testing.assert_array_equal(told, what.y & inside)
    first = spans["onset"].ceil()
    assert (first != spans["onset"]).all()
    assert (spans["known_at"] == first).all()


def test_the_record_knows_of_an_episode_after_the_declared_delay():
    now, late = (tables(ward(stays=50, known_delay_hours=hours))["episodes"] for hours in (0, 30))
    assert_frame_equal(now.drop("known_at"), late.drop("known_at"))
    assert ((late["known_at"] - now["known_at"]).dt.total_hours() == 30).all()


def test_treatments_carry_the_doses_that_acted():
    options = WardOptions(stays=500, **SMALL)
    who = _ward.people(options, 0)
    doses = _ward.course(options, who, 0).doses
    found = np.zeros_like(doses)
    table = tables(SimulatedWard(None, options))
    given = table["treatments"].join(table["stays"].select("stay_id", "admitted_at"), on="stay_id")
    hours = (given["end"] - given["start"]).dt.total_minutes().to_numpy() / 60
    amount = given["dose"].to_numpy() * np.where(hours > 0, hours, 1)
    since = [
        (given[name] - given["admitted_at"]).dt.total_minutes().to_numpy()
        for name in ("start", "end")
    ]
    step = (since[0] - 1) // (24 * 60)
    np.testing.assert_array_equal(step, (since[1] - 1) // (24 * 60))
    code = (
        given["drug"].replace_strict({name: i for i, name in enumerate(options.drugs)}).to_numpy()
    )
    found[given["stay_id"].to_numpy() - 1, step, code] = amount
    inside = np.arange(options.max_steps) < who.steps[:, None]
    np.testing.assert_allclose(found, doses * inside[..., None])
    assert (hours[given["drug"].to_numpy() == "norepinephrine"] == 6).all()


def test_the_sick_are_measured_more_often(grown):
    days = grown["stays"].select(
        "stay_id", days=(pl.col("discharged_at") - pl.col("admitted_at")).dt.total_days()
    )
    spans = grown["episodes"].join(grown["stays"].select("stay_id", "discharged_at"), on="stay_id")
    septic = spans.group_by("stay_id").agg(
        septic=(pl.coalesce("end", "discharged_at") - pl.col("onset")).dt.total_hours().sum() / 24
    )
    lactate = grown["events"].filter(variable="lact").group_by("stay_id").len("measured")
    rate = (
        days.join(septic, on="stay_id", how="left")
        .join(lactate, on="stay_id", how="left")
        .fill_null(0)
        .with_columns(sick=pl.col("septic") / pl.col("days") > 0.4)
        .group_by("sick")
        .agg(rate=pl.col("measured").sum() / pl.col("days").sum())
    )
    rates = dict(rate.iter_rows())
    assert 0.4 < rates[False] < rates[True] < 0.9
    assert rates[True] > 1.2 * rates[False]


def test_values_are_plausible_rounded_and_rarely_at_a_bound(grown):
    events = grown["events"].join(ranges(), on="variable")
    assert events.filter(~pl.col("value").is_between("low", "high")).is_empty()
    inner = events.filter(~pl.col("variable").is_in(["gcs", "o2sat"]))  # full marks are common
    assert inner.filter(
        (pl.col("value") <= pl.col("low")) | (pl.col("value") >= pl.col("high"))
    ).is_empty()
    assert (events.filter(variable="hr")["value"] % 1 == 0).all()
    assert set(events["variable"]) == set(VARIABLES)


def test_results_come_late_and_vitals_at_once(grown):
    delay = grown["events"].with_columns(
        hours=(pl.col("known_at") - pl.col("time")).dt.total_minutes() / 60
    )
    labs = delay.filter(variable="lact")["hours"]
    assert labs.min() >= 1
    assert labs.max() <= 6
    assert labs.n_unique() > 100
    assert (delay.filter(variable="hr")["hours"] == 0).all()


def test_a_subject_s_second_stay_follows_the_first_with_the_same_traits(grown):
    stays = grown["stays"].sort("admitted_at")
    again = stays.filter(pl.len().over("subject_id") > 1)
    assert 0.06 < again.height / 2 / stays.height < 0.14
    pairs = again.group_by("subject_id", maintain_order=True).agg(
        pl.col("age", "sex", "height_cm").n_unique(),
        gap=pl.col("admitted_at").last() - pl.col("discharged_at").first(),
    )
    assert (pairs.select("age", "sex", "height_cm") == 1).to_numpy().all()
    assert pairs["gap"].dt.total_days().min() >= 7
    assert tables(ward(stays=200, share_readmitted=0))["stays"]["subject_id"].is_unique().all()


def test_the_oracle_speaks_at_every_step_and_for_no_table(grown):
    oracle = ward(stays=600).oracle()
    days = grown["stays"].select(
        "stay_id", "admitted_at", days=(pl.col("discharged_at") - pl.col("admitted_at"))
    )
    steps = (
        oracle.group_by("stay_id").agg(pl.len(), last=pl.col("time").max()).join(days, on="stay_id")
    )
    assert (steps["len"] == steps["days"].dt.total_days()).all()
    assert (steps["last"] == steps["admitted_at"] + steps["days"]).all()
    assert oracle["probability"].is_between(0, 1).all()
    held = {column for table in grown.values() for column in table.columns}
    assert "probability" not in held
    assert not set(oracle["probability"]) & set(grown["events"]["value"])


def test_the_fingerprint_is_the_law_s_version_alone():
    assert ward(stays=5).fingerprint() == ward(stays=50, seed=3).fingerprint()


def test_true_curves_are_what_a_dose_does_to_the_law():
    """Take hydrocortisone's effect away, leave everything else as it fell: the logits differ by its doses' curves."""
    options = WardOptions(max_steps=40, response=ResponseLaw(persistence=0.0, physiology={}))
    quiet = options.drugs["hydrocortisone"].model_copy(update={"effect": 0.0})
    without = options.model_copy(update={"drugs": {**options.drugs, "hydrocortisone": quiet}})
    who = _ward.people(options, 0)
    # norepinephrine is given to the septic, so take what hangs on the response out of the comparison
    blind = {
        "norepinephrine": options.drugs["norepinephrine"].model_copy(update={"when_septic": 0.0})
    }
    one, two = (
        _ward.course(o.model_copy(update={"drugs": {**o.drugs, **blind}}), who, 0)
        for o in (options, without)
    )
    np.testing.assert_array_equal(one.doses, two.doses)
    curve = true_curves(options).filter(drug="hydrocortisone")["effect"].to_numpy()
    given = one.doses[..., list(options.drugs).index("hydrocortisone")]
    summed = np.stack([np.convolve(row, curve)[:40] for row in given])
    np.testing.assert_allclose(logit(one.probability) - logit(two.probability), summed, atol=1e-6)


def test_true_curves_name_every_drug_at_every_lag():
    options = WardOptions(max_steps=50)
    curves = true_curves(options)
    assert curves["drug"].unique(maintain_order=True).to_list() == list(DRUGS)
    assert curves.group_by("drug").agg(pl.col("lag").sort())["lag"].to_list() == [
        list(range(50))
    ] * len(DRUGS)
    assert (curves.filter(pl.col("drug").is_in(["insulin", "furosemide"]))["effect"] == 0).all()
    hump = curves.filter(drug="vancomycin")
    drug = options.drugs["vancomycin"]
    assert hump["effect"].abs().arg_max() == drug.curve.peak
    assert hump["effect"].min() * drug.reference == pytest.approx(drug.effect)


def test_the_shipped_choice_spells_out_the_defaults():
    options = compose_cohort("simulated").options
    assert WardOptions(**options) == WardOptions(stays=options["stays"])
    spelled = WardOptions(**options).model_dump(exclude_unset=True)
    assert set(spelled) == set(WardOptions.model_fields)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("cohort.options.min_steps=100", "min_steps (100)"),
        (
            "cohort.options.response.physiology.mood=1",
            "mood is none of circulation, inflammation, organs",
        ),
        ("cohort.options.drugs.vancomycin.efect=2", 'did you mean "effect"?'),
        ("cohort.options.drugs.vancomycin.curve.shape=humpy", "'hump'"),
    ],
)
def test_a_wrong_option_is_named_in_a_line(override: str, said: str):
    with pytest.raises(UsageError) as error:
        make_source(compose_cohort("simulated", [override]))
    assert said in error.value.what
    assert len(error.value.what) < 300


def test_any_part_of_the_law_may_be_overridden():
    config = compose_cohort(
        "simulated", ["cohort.options.drugs.vancomycin.effect=-5", "cohort.options.stays=7"]
    )
    options = WardOptions(**config.options)
    assert options.drugs["vancomycin"].effect == -5
    assert options.drugs["vancomycin"].curve == WardOptions().drugs["vancomycin"].curve
    assert isinstance(next(SimulatedWard(None, options).batches()), StayBatch)
