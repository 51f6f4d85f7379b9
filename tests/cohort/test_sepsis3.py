"""Suspicion, SOFA, onset and end on cases that a person can check by hand."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from flowsheet.cohort.sepsis3 import COMPONENTS, Sepsis3Options
from tests.cohort.sepsis3_cases import ADMITTED, Record, agree, at, midnight

DEFAULT = Sepsis3Options()
ANY_DOSE = Sepsis3Options(confirm_after_hours=0)


def healthy(hours=96.0):
    """Charted from the first hour, nothing wrong."""
    record = Record(hours).every("map", 1, 0.5, hours, 85).every("gcs", 4, 1, hours, 15)
    return record.every("crea", 12, 2, hours, 0.8).every("plt", 12, 2, hours, 250)


def suspected(record, options=ANY_DOSE):
    found = agree([record], options).suspicions
    return [(round((time - ADMITTED).total_seconds() / 3600, 3)) for time in found["time"]]


def onsets(record, options=DEFAULT):
    found = agree([record], options).episodes
    return [(round((time - ADMITTED).total_seconds() / 3600, 3)) for time in found["onset"]]


def scores(record, component, options=DEFAULT):
    return agree([record], options).sofa[component].to_list()


class TestSuspicion:
    @pytest.mark.parametrize(
        ("culture", "antibiotic", "when"),
        [
            (10, 20, [10]),  # culture first
            (10, 82, [10]),  # 72 h are still within
            (10, 82.25, []),
            (20, 10, [10]),  # antibiotic first
            (34, 10, [10]),  # 24 h are still within
            (34.25, 10, []),
            (10, 10, [10]),
            (-30, 40, [-30]),  # before the stay: its window reaches hour -6, not the stay
            (-20, 40, [-20]),
        ],
    )
    def test_is_a_culture_and_an_antibiotic_close_together(self, culture, antibiotic, when):
        found = suspected(healthy().culture(culture).dose("vancomycin", antibiotic))
        assert found == [time for time in when if time >= -24]

    def test_is_known_when_both_are(self):
        record = healthy().culture(10, late=3).dose("vancomycin", 20, late=2)
        assert agree([record], ANY_DOSE).suspicions["known_at"].to_list() == [at(22)]

    @pytest.mark.parametrize("route", ["eye", "Topical", "catheter lock"])
    def test_leaves_out_routes_that_treat_a_surface(self, route):
        record = healthy().culture(10).dose("vancomycin", 12, route=route)
        labelled = agree([record], ANY_DOSE)
        assert labelled.suspicions.is_empty()
        assert labelled.counts["antibiotics excluded: route"] == 1

    def test_counts_antifungals_only_when_told(self):
        record = healthy().culture(10).dose("fluconazole", 12)
        assert suspected(record) == []
        assert suspected(
            record, Sepsis3Options(confirm_after_hours=0, groups=("antibiotic", "antifungal"))
        ) == [10]

    def test_leaves_out_screens(self):
        record = healthy().culture(10, specimen="MRSA SCREEN").dose("vancomycin", 12)
        labelled = agree([record], ANY_DOSE)
        assert labelled.suspicions.is_empty()
        assert labelled.counts["cultures excluded: specimen"] == 1

    def test_a_single_dose_is_no_treatment(self):
        assert suspected(healthy().culture(10).dose("vancomycin", 12), DEFAULT) == []
        assert suspected(
            healthy().culture(10).dose("vancomycin", 12).dose("meropenem", 24), DEFAULT
        ) == [10]

    def test_a_treatment_is_known_with_its_second_dose(self):
        record = healthy().culture(10).dose("vancomycin", 12).dose("vancomycin", 24, late=1)
        found = agree([record], DEFAULT).suspicions
        assert found["known_at"].to_list() == [at(25)]

    def test_prophylaxis_must_go_on_for_longer(self):
        record = healthy().culture(1)
        for time in (2, 10, 18, 26):
            record.dose("cefazolin", time)
        assert suspected(record, DEFAULT) == []
        assert suspected(record.dose("vancomycin", 50), DEFAULT) == [1]

    def test_of_a_day_only_the_day_is_known(self):
        # admitted 21:40; the order of the next day covers hours 2.33 to 26.33, the culture lies within
        record = healthy().culture(10).order("vancomycin", 10, days=1)
        assert suspected(record) == [10]
        assert agree([record], ANY_DOSE).suspicions["known_at"].to_list() == [
            midnight(10) + timedelta(days=1)
        ]

    def test_a_day_that_comes_first_begins_at_midnight(self):
        record = healthy().order("vancomycin", 10, days=1).culture(40)
        found = agree([record], ANY_DOSE).suspicions
        assert found["time"].to_list() == [midnight(10)]

    def test_an_order_of_one_day_is_a_single_dose_one_of_two_days_is_not(self):
        assert suspected(healthy().culture(10).order("vancomycin", 10, days=1), DEFAULT) == []
        assert suspected(healthy().culture(10).order("vancomycin", 10, days=2), DEFAULT) == [10]

    def test_a_culture_of_which_only_the_day_is_known(self):
        record = healthy().culture(10, date_only=True).dose("vancomycin", 12)
        assert suspected(record) == [12]


class TestSofa:
    @pytest.mark.parametrize(
        ("variable", "component", "graded"),
        [
            ("plt", "coagulation", {150: 0, 149: 1, 100: 1, 99: 2, 50: 2, 49: 3, 20: 3, 19: 4}),
            ("bili", "liver", {1.1: 0, 1.2: 1, 1.9: 1, 2.0: 2, 5.9: 2, 6.0: 3, 11.9: 3, 12.0: 4}),
            ("map", "cardiovascular", {70: 0, 69: 1}),
            ("gcs", "cns", {15: 0, 14: 1, 13: 1, 12: 2, 10: 2, 9: 3, 6: 3, 5: 4, 3: 4}),
            ("crea", "renal", {1.1: 0, 1.2: 1, 1.9: 1, 2.0: 2, 3.4: 2, 3.5: 3, 4.9: 3, 5.0: 4}),
        ],
    )
    def test_grades_a_measurement(self, variable, component, graded):
        for value, score in graded.items():
            assert scores(Record(3).chart(variable, 1, value), component)[0] == score, value

    @pytest.mark.parametrize(
        ("drug", "graded"),
        [
            ("norepinephrine", {None: 3, 0.02: 3, 0.1: 3, 0.11: 4, 0.0: None}),
            ("epinephrine", {0.1: 3, 0.2: 4}),
            ("dopamine", {None: 2, 5: 2, 5.1: 3, 15: 3, 15.1: 4}),
            ("dobutamine", {None: 2, 2: 2, 20: 2}),
            ("vasopressin", {0.04: None}),
        ],
    )
    def test_grades_a_vasopressor_while_it_runs_and_a_day_after(self, drug, graded):
        for rate, score in graded.items():
            got = scores(Record(40).run(drug, 2, 5, rate), "cardiovascular")
            assert got == [None] + [score] * 27 + [None] * 12, rate

    @pytest.mark.parametrize(
        ("po2", "fio2", "vent", "score"),
        [
            (84, 21, 0, 0),
            (80, 21, 0, 1),
            (80, 40, 1, 2),
            (60, 40, 0, 2),  # 150, but nothing helps the breathing
            (60, 40, 1, 3),
            (60, 100, 0, 2),
            (60, 100, 1, 4),
            (60, None, 1, None),
        ],
    )
    def test_grades_a_blood_gas_by_oxygen_and_ventilation(self, po2, fio2, vent, score):
        record = Record(8).chart("po2", 4, po2).chart("vent", 1, vent)
        if fio2 is not None:
            record.chart("fio2", 1, fio2)
        assert scores(record, "respiration")[3] == score

    def test_oxygen_charted_too_long_ago_says_nothing(self):
        assert (
            scores(Record(8).chart("fio2", 1, 40).chart("po2", 5.25, 60), "respiration")[5] is None
        )

    def test_coma_is_summed_from_its_parts(self):
        record = Record(4).chart("egcs", 1, 2).chart("vgcs", 1, 1).chart("mgcs", 1, 4)
        assert scores(record, "cns")[0] == 3
        assert scores(Record(4).chart("egcs", 1, 2).chart("vgcs", 1, 1), "cns")[0] is None

    def test_takes_the_worst_of_exactly_24_hours(self):
        got = scores(
            Record(40).every("map", 1, 0.5, 40, 90).chart("map", 3.25, 50), "cardiovascular"
        )
        assert got == [0] * 3 + [1] * 24 + [0] * 13

    def test_what_was_charted_on_the_hour_belongs_to_it(self):
        got = scores(Record(40).chart("crea", 3, 2), "renal")
        assert got == [None] * 2 + [2] * 24 + [None] * 14

    def test_what_comes_late_counts_from_when_it_comes(self):
        got = scores(
            Record(40).chart("crea", 3, 2, late=10), "renal"
        )  # read four hours after the hour
        assert got == [None] * 8 + [2] * 18 + [None] * 14

    @pytest.mark.parametrize(("hourly", "score"), [(25, 0), (20, 3), (9, 3), (8, 4)])
    def test_urine_is_judged_once_a_day_of_it_is_known(self, hourly, score):
        got = scores(Record(40).every("urine", 1, 1, 41, hourly), "renal")
        assert got == [None] * 21 + [score] * 19

    def test_urine_is_scaled_to_the_time_that_it_speaks_of(self):
        got = scores(Record(30).chart("urine", 22, 400), "renal")  # 436 mL a day
        assert got[20:23] == [None, 3, 3]

    def test_urine_charted_after_a_gap_is_not_judged(self):
        got = scores(Record(60).chart("urine", 1, 50).chart("urine", 40, 100), "renal")
        assert set(got) == {None}

    def test_what_is_missing_counts_nothing(self):
        got = agree([Record(5).chart("crea", 1, 2.5)], DEFAULT).sofa
        assert got["total"].to_list() == [2] * 5
        assert got["known"].to_list() == [1] * 5
        assert [c for c in COMPONENTS if got[c].is_not_null().any()] == ["renal"]


class TestOnset:
    def treated(self, record, first=30, step=12, last=54):
        """Culture and antibiotics from hour 30 on."""
        record.culture(first)
        time = first
        while time <= last:
            record.dose("vancomycin", time)
            time += step
        return record

    @pytest.mark.parametrize(
        ("rise", "found"),
        [
            (20, [20]),  # before suspicion
            (30, [30]),
            (45, [45]),  # after it
            (54, [54]),  # the window's end
            (54.5, []),
        ],
    )
    def test_is_when_the_score_rises_around_suspicion(self, rise, found):
        record = self.treated(healthy(120), last=42).run("norepinephrine", rise, rise + 30, 0.05)
        assert onsets(record) == found

    @pytest.mark.parametrize(("rise", "found"), [(53, [53]), (52, [])])
    def test_the_window_reaches_back_48_hours(self, rise, found):
        """Its first hour, 52, can only be what a rise is measured from."""
        record = healthy(160).run("norepinephrine", rise, rise + 4, 0.05)
        assert onsets(self.treated(record, first=100, last=130)) == found

    def test_a_rise_of_one_is_none(self):
        assert onsets(self.treated(healthy(120)).chart("crea", 33, 1.5)) == []
        assert onsets(self.treated(healthy(120)).chart("crea", 33, 1.5).chart("map", 35, 60)) == [
            35
        ]

    def test_no_sepsis_without_suspicion(self):
        assert onsets(healthy(120).run("norepinephrine", 20, 50, 0.2)) == []

    def test_the_begin_of_charting_is_no_rise(self):
        """Ill from the start, and the laboratory speaks late."""
        record = (
            Record(90)
            .every("map", 1, 5.5, 90, 60)
            .every("crea", 8, 20, 90, 4.0)
            .every("gcs", 4, 30, 90, 8)
        )
        self.treated(record, first=10, last=34)
        assert onsets(record) == []

    def test_a_gap_in_charting_is_no_rise(self):
        record = healthy(120).chart("bili", 1, 7).chart("bili", 40, 7)
        assert onsets(self.treated(record)) == []
        assert onsets(
            self.treated(
                healthy(120).chart("bili", 1, 7).chart("bili", 40, 12).chart("map", 40, 60)
            )
        ) == [40]

    def test_organs_presumed_sound_before_admission(self):
        options = Sepsis3Options(baseline="presumed_zero")
        record = (
            Record(90)
            .every("map", 1, 5.5, 90, 60)
            .every("crea", 8, 20, 90, 4.0)
            .every("gcs", 4, 30, 90, 8)
        )
        self.treated(record, first=10, last=34)
        assert onsets(record, options) == [
            20
        ]  # creatinine within the first day; the coma is first charted later

    def test_the_level_needs_no_rise(self):
        record = Record(90).every("crea", 8, 1, 90, 4.0)
        self.treated(record, first=30, last=54)
        assert onsets(record, Sepsis3Options(criterion="level")) == [1]
        assert onsets(record) == []

    def test_is_known_when_suspicion_and_score_are(self):
        record = self.treated(healthy(120)).run("norepinephrine", 31, 50, 0.05)
        found = agree([record], DEFAULT).episodes
        assert found["known_at"].to_list() == [
            at(42)
        ]  # the second dose; the score would have been known at 35
        record = self.treated(healthy(120)).run("norepinephrine", 50, 60, 0.05)
        assert agree([record], DEFAULT).episodes["known_at"].to_list() == [at(54)]

    def test_what_is_known_first_opens_the_episode(self):
        """A culture that reaches the record days late would date the onset back to hour 15."""
        record = self.treated(healthy(240), first=100, last=130)
        record.run("norepinephrine", 15, 17, 0.05).run("norepinephrine", 60, 62, 0.05)
        assert onsets(record) == [60]
        assert onsets(
            record.culture(20, late=180).dose("vancomycin", 20).dose("vancomycin", 32)
        ) == [60]

    def test_both_chart_systems_give_the_same_days(self):
        """Antibiotics only ordered by the day, as one of the systems has them, or charted dose by dose."""
        charted = self.treated(healthy(200), first=40, step=12, last=110).run(
            "norepinephrine", 41, 60, 0.1
        )
        ordered = (
            healthy(200)
            .culture(40)
            .order("vancomycin", 40, days=4)
            .run("norepinephrine", 41, 60, 0.1)
        )
        assert onsets(charted) == onsets(ordered) == [41]


class TestEnd:
    def case(self, last, hours=400):
        record = healthy(hours).culture(30).run("norepinephrine", 31, 50, 0.05)
        time = 30
        while time <= last:
            record.dose("vancomycin", time)
            time += 12
        return record

    def test_two_days_without_antibiotics_and_the_score_back(self):
        found = agree([self.case(last=102)], DEFAULT).episodes
        assert found["end"].to_list() == [
            at(102 + 48 + 4)
        ]  # and the four hours until it was certain

    def test_waits_for_the_score(self):
        found = agree([self.case(last=54).every("crea", 6, 60, 300, 3)], DEFAULT).episodes
        assert found["end"].to_list() == [
            at(318 + 4)
        ]  # charted last at 294, and the worst of a day counts

    def test_is_not_over_when_the_record_ends(self):
        found = agree([self.case(last=102, hours=150)], DEFAULT).episodes
        assert found["end"].to_list() == [None]

    def test_a_second_episode_after_the_first(self):
        record = self.case(last=60).culture(250).run("norepinephrine", 255, 300, 0.2)
        record.dose("meropenem", 250).dose("meropenem", 264)
        found = agree([record], DEFAULT).episodes
        assert found["onset"].to_list() == [at(31), at(255)]
        assert found["end"][0] == at(54 + 48 + 4)

    def test_a_fixed_time(self):
        options = Sepsis3Options(end="fixed", end_days=3)
        found = agree([self.case(last=102)], options).episodes
        assert found["end"].to_list() == [at(31 + 72)]


def test_counts_add_up_over_batches():
    records = [TestEnd().case(last=102), healthy()]
    records[1].stay["stay_id"] = 2
    together = agree(records, DEFAULT).counts
    apart = [agree([record], DEFAULT).counts for record in records]
    assert together == {name: sum(one[name] for one in apart) for name in together}
    assert together["septic days"] == 6  # hour 31 to hour 154: days 2 to 7
    assert together["stays with an episode"] == 1


def test_no_stays_no_label():
    got = agree([], DEFAULT)
    assert got.episodes.is_empty()
    assert set(got.counts.values()) == {0}


def test_rows_of_other_stays_are_not_read():
    record, other = healthy(), TestEnd().case(last=102)
    other.stay["stay_id"] = 9
    alone = agree([record], DEFAULT)
    beside = agree([record, other], DEFAULT)
    assert beside.sofa.filter(pl.col("stay_id") == 1).equals(alone.sofa)
