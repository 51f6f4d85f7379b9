"""Every shipped response keeps to the contract, with its default and with other options."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from flowsheet.cohort.responses.base import RESPONSES, find_words
from flowsheet.errors import UsageError
from flowsheet.testing.responses import ResponseConformance


def make(name, **options):
    response = RESPONSES.get(name)
    return response(response.Options(**options))


class TestDeath(ResponseConformance):
    def make_response(self):
        return make("death")


class TestDeathInTheUnit(ResponseConformance):
    def make_response(self):
        return make("death", place="icu")

    def test_who_left_the_hospital_alive_did_not_die_in_the_unit(self):
        records = self.make_records()
        stays = records.stays.head(1).with_columns(
            died_at="discharged_at", hospital_death=pl.lit(value=False)
        )
        assert self.make_response().find_episodes(replace(records, stays=stays)).is_empty()


CIRCULATION = {"map": (45.0, 100.0), "lact": (0.5, 6.0)}
LUNGS = {"po2": (50.0, 200.0), "fio2": (21.0, 100.0), "vent": (0.0, 1.0)}
KIDNEYS = {"crea": (0.6, 5.0), "urine": (0.0, 120.0), "weight": (70.0, 90.0), "rrt": (0.0, 1.0)}


class TestAki(ResponseConformance):
    variables = KIDNEYS

    def make_response(self):
        return make("aki")


class TestAkiOfStage2SinceTheFirstValue(ResponseConformance):
    variables = KIDNEYS

    def make_response(self):
        return make("aki", stage=2, baseline="first", end_after_hours=6, use_dialysis=False)


class TestAkiByEstimatedBaseline(ResponseConformance):
    variables = KIDNEYS

    def make_response(self):
        return make("aki", baseline="mdrd", min_hours=3, end_after_hours=12, use_urine=False)


class TestCirculatoryFailure(ResponseConformance):
    variables = CIRCULATION
    drugs = ("norepinephrine", "dobutamine")

    def make_response(self):
        return make("circulatory_failure")


class TestLastingCirculatoryFailure(ResponseConformance):
    variables = CIRCULATION
    drugs = ("norepinephrine",)

    def make_response(self):
        return make("circulatory_failure", min_hours=3, end_after_hours=2, charting_delay_hours=4)


class TestRespiratoryFailure(ResponseConformance):
    variables = LUNGS

    def make_response(self):
        return make("respiratory_failure", ventilation="required")


def test_names_are_listed_and_a_wrong_one_is_corrected():
    shipped = {"sepsis", "death", "aki", "circulatory_failure", "respiratory_failure", "label"}
    assert shipped <= set(RESPONSES.names())
    with pytest.raises(UsageError, match='did you mean "aki"'):
        RESPONSES.get("akj")


def test_a_response_without_a_module_has_words():
    assert find_words("icu_delirium").enter == "have icu delirium"


def test_the_label_of_a_source_is_not_computed():
    with pytest.raises(UsageError, match="given by the source"):
        make("label").find_episodes(pl.DataFrame())
