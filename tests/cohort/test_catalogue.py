"""The catalogue is complete and consistent, and suggests names."""

from __future__ import annotations

import re

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.item_map import TEXT_CONVERSIONS
from flowsheet.cohort.sources.meds.codes import CodeMapping
from flowsheet.cohort.sources.physionet2019 import MEASUREMENTS
from flowsheet.cohort.units import FRACTION_OR_PERCENT, LINEAR_CONVERSIONS
from flowsheet.errors import UsageError


def test_every_variable_has_a_unit_a_kind_a_range_and_its_source():
    for name, variable in catalogue.variables().items():
        assert variable.name == name
        assert all([variable.label, variable.unit, variable.kind, variable.source])
        assert variable.low < variable.high


def test_every_drug_has_a_group_and_a_unit():
    for name, drug in catalogue.drugs().items():
        assert drug.name == name
        assert drug.group
        assert drug.unit


def test_all_measurements_of_the_physionet_challenge_are_in_the_catalogue():
    assert len(MEASUREMENTS) == 34
    assert set(MEASUREMENTS.values()) <= set(catalogue.variables())


def test_names_are_unique():
    assert catalogue.ranges()["variable"].is_unique().all()
    assert catalogue.drug_units()["drug"].is_unique().all()


def test_mimic3_items_name_known_concepts_once_each():
    items = catalogue.mimic3_items()
    known = {*catalogue.variables(), *catalogue.drugs(), "specimen"}
    assert set(items["name"]) <= known
    assert set(items.filter(kind="drug")["name"]) <= set(catalogue.drugs())
    assert items.select("table", "itemid", "name").is_duplicated().sum() == 0
    assert items["label"].null_count() == items["source"].null_count() == 0
    measured = items.filter(pl.col("table").is_in(["chartevents", "labevents", "outputevents"]))
    # Some ventilator settings belong to two concepts, the types of lines to three; what dialysis
    # takes off is an output too.
    shared = measured.filter(~pl.col("name").is_in(["rrt", "other_output"]))
    assert shared["itemid"].is_unique().sum() >= shared.height - 50


def test_every_result_of_the_laboratory_has_a_delay_and_its_copies_are_of_its_variable():
    items = catalogue.mimic3_items()
    results = items.filter(pl.col("name") != "specimen", table="labevents")
    assert results["delay_hours"].is_between(0.1, 24).all()
    hours = dict(results.select("name", "delay_hours").iter_rows())
    assert hours["po2"] < hours["lact"] < 0.5
    assert 2 < hours["plt"] < hours["crea"] < hours["bili"]
    assert items.filter(pl.col("table") != "labevents")["delay_hours"].null_count() > 0
    assert set(items.filter(kind="copy")["name"]) <= set(results["name"])
    mapped = CodeMapping.read("mimic").rows
    of_meds = mapped.with_columns(itemid=pl.col("code").str.extract(r"^LAB//(5\d{4})//"))
    of_meds = of_meds.drop_nulls("itemid").select(pl.col("itemid").cast(pl.Int64), "delay_hours")
    pairs = of_meds.join(results, on="itemid")
    assert pairs.height == of_meds.height
    assert pairs["delay_hours"].equals(pairs["delay_hours_right"])


def test_the_codes_of_comorbidities_have_weights():
    codes, weights = catalogue.comorbidity_codes(), catalogue.comorbidity_weights()
    key = ["score", "condition"]
    assert codes.is_duplicated().sum() == 0
    for version, pattern in ((9, r"^[0-9VE][0-9]{2,4}$"), (10, r"^[A-Z][0-9]{2,3}$")):
        of_version = codes.filter(version=version)
        assert of_version.select(key).unique().sort(key).equals(weights.select(key).sort(key))
        assert of_version["code"].str.contains(pattern).all()
    assert weights.group_by("score").len().sort("score")["len"].to_list() == [17, 31]
    severer = weights.drop_nulls("superseded_by")
    pairs = severer.join(weights, left_on=["score", "superseded_by"], right_on=key, how="inner")
    assert pairs.height == severer.height == 6


def test_every_item_has_a_known_conversion():
    texts = catalogue.mimic3_texts()
    of_text = {*texts["convert"], *TEXT_CONVERSIONS}
    of_number = {"none", "grams", "arterial", "gcs_total", FRACTION_OR_PERCENT, *LINEAR_CONVERSIONS}
    assert set(catalogue.mimic3_items()["convert"]) <= {*of_text, *of_number, "interval", "present"}
    assert texts.select("convert", "text").is_duplicated().sum() == 0
    assert texts["text"].str.to_lowercase().equals(texts["text"])
    assert texts["value"].is_between(0, 7).all()


def test_common_variables_have_items_in_both_chart_systems():
    items = catalogue.mimic3_items()
    vital_signs = ("hr", "sbp", "dbp", "map", "resp", "temp", "o2sat")
    others = ("fio2", "vgcs", "height", "weight", "urine", "vent")
    for name in (*vital_signs, *others):
        assert {"carevue", "metavision"} <= set(items.filter(name=name)["system"]), name
    variables = set(items.filter(pl.col("kind") != "drug")["name"]) - {"specimen"}
    assert len(variables) >= 60


def test_only_glucose_of_blood_is_mapped():
    items = set(catalogue.mimic3_items().filter(name="glu", table="labevents")["itemid"])
    assert items == {50809, 50931}


@pytest.mark.parametrize(
    ("order", "drug"),
    [
        ("CeftriaXONE", "ceftriaxone"),
        ("Meropenem", "meropenem"),
        ("Linezolid", "linezolid"),
        ("Daptomycin", "daptomycin"),
        ("*NF* Ertapenem Sodium", "ertapenem"),
        ("Piperacillin-Tazobactam Na", "piperacillin_tazobactam"),
        ("Amoxicillin-Clavulanic Acid", "amoxicillin_clavulanate"),
        ("Valganciclovir HCl", "valganciclovir"),
        ("PredniSONE", "prednisone"),
        ("Methylprednisolone Na Succ.", "methylprednisolone"),
        ("NORepinephrine", "norepinephrine"),
        ("Ciprofloxacin 0.3% Ophth Soln", None),
        ("Heparin Flush (10 units/ml)", None),
        ("PrednisoLONE Acetate 1% Ophth. Susp.", None),
    ],
)
def test_an_order_is_mapped_by_the_first_pattern_that_matches(order: str, drug: str | None):
    name = order.lower()
    mapped = None
    for row in catalogue.mimic3_prescriptions().iter_rows(named=True):
        exclude = row["exclude_pattern"]
        if re.search(row["pattern"], name) and not (exclude and re.search(exclude, name)):
            mapped = row["drug"]
            break
    assert mapped == drug


@pytest.mark.parametrize(
    ("look_up", "mistyped", "nearest"),
    [(catalogue.variable, "lacr", "lact"), (catalogue.drug, "vancomicin", "vancomycin")],
)
def test_for_a_mistyped_name_the_nearest_is_suggested(look_up, mistyped: str, nearest: str):
    assert look_up(nearest).name == nearest
    with pytest.raises(UsageError, match=f'did you mean "{nearest}"'):
        look_up(mistyped)
