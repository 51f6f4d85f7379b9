from __future__ import annotations

import pytest
from pydantic import ValidationError

from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.simulated import SimulatedWard
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.compose import compose_cohort
from flowsheet.errors import UsageError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_steps": 9, "max_steps": 8}, "min_steps"),
        ({"drugs": {"vancomycine": {"doses": [1], "reference": 1, "chance": 0.1}}}, "vancomycine"),
        ({"response": {"physiology": {"mood": 1.0}}}, "mood"),
        ({"drugs": {"insulin": {"doses": [1], "reference": 1, "chance": 1.5}}}, "less than 1"),
        ({"drugs": {"insulin": {"doses": [], "reference": 1, "chance": 0.5}}}, "at least 1 item"),
        ({"stay": 3}, "Extra inputs"),
    ],
)
def test_impossible_options_are_refused(options, message: str):
    with pytest.raises(ValidationError, match=message):
        WardOptions(**options)


def test_the_shipped_configuration_spells_out_the_defaults():
    options = compose_cohort("simulated").options
    assert WardOptions(**options) == WardOptions(stays=options["stays"])
    spelled_out = WardOptions(**options).model_dump(exclude_unset=True)
    assert set(spelled_out) == set(WardOptions.model_fields)


@pytest.mark.parametrize(
    ("override", "message"),
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
def test_the_error_for_a_wrong_option_names_it_in_one_line(override: str, message: str):
    with pytest.raises(UsageError) as error:
        make_source(compose_cohort("simulated", [override]))
    assert message in error.value.what
    assert len(error.value.what) < 300


def test_any_part_of_the_process_may_be_overridden():
    config = compose_cohort(
        "simulated", ["cohort.options.drugs.vancomycin.effect=-5", "cohort.options.stays=7"]
    )
    options = WardOptions(**config.options)
    assert options.drugs["vancomycin"].effect == -5
    assert options.drugs["vancomycin"].curve == WardOptions().drugs["vancomycin"].curve
    batch = next(SimulatedWard(None, options).batches())
    assert batch.stays.height == 7
