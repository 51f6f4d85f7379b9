"""The comparison of definitions: of stays checked by hand, and in the manifest of an extract."""

from __future__ import annotations

from flowsheet.cohort.agreement import compare_definitions
from flowsheet.cohort.sepsis3 import LabelInputs, Sepsis3Options, label
from flowsheet.cohort.sepsis3.conventions import CONVENTIONS
from flowsheet.cohort.sepsis3.definitions import CHOSEN, first_onsets, other_definitions
from tests.cohort.sepsis3.cases import DEFAULT, healthy_record, septic_record
from tests.cohort.sepsis3.records import at, make_tables


def compared(options):
    septic, other = septic_record(last_dose=102), healthy_record()
    other.stay["stay_id"] = 2
    single_dose = healthy_record(300).take_culture(30).give("vancomycin", 30)
    single_dose.infuse("norepinephrine", 31, 50, 0.05)
    single_dose.stay["stay_id"] = 3
    inputs = LabelInputs(*make_tables([septic, other, single_dose]))
    return first_onsets(inputs, options, label(inputs, options).episodes)


def test_each_definition_gives_the_first_onset_of_each_stay():
    onsets = compared(DEFAULT)
    assert onsets.columns == ["stay_id", CHOSEN, *CONVENTIONS, "sofa2", "adult_sepsis_event"]
    assert onsets[CHOSEN].to_list() == [at(31), None, None]
    assert onsets["mimic_code"].to_list() == [at(31), None, at(31)]  # single doses count


def test_the_chosen_definition_is_not_compared_with_itself():
    assert "flowsheet" not in other_definitions(DEFAULT)
    assert "flowsheet" in other_definitions(Sepsis3Options(points=3))


def test_definitions_are_compared_by_kappa_and_onset():
    entry = compare_definitions([compared(DEFAULT)])[0]
    assert (entry.definition, entry.other, entry.stays) == (CHOSEN, "mimic_code", 3)
    assert (entry.stays_with_definition, entry.stays_with_other) == (1, 2)
    assert (entry.kappa, entry.median_hours_later) == (0.4, 0.0)


def test_a_source_without_definitions_has_no_agreement():
    assert compare_definitions([compared(DEFAULT).select("stay_id")]) == ()
