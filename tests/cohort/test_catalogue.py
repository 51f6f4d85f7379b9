"""The catalogue is complete, consistent, and helpful about names."""

from __future__ import annotations

import re

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.sources.physionet2019 import MEASUREMENTS
from flowsheet.errors import UsageError


def test_every_variable_has_a_unit_a_kind_a_range_and_its_source():
    for name, variable in catalogue.variables().items():
        assert variable.name == name
        assert all([variable.label, variable.unit, variable.kind, variable.source])
        assert variable.low < variable.high


def test_every_drug_has_a_group_and_a_unit():
    assert all(
        drug.group and drug.unit and drug.name == name for name, drug in catalogue.drugs().items()
    )


def test_the_challenge_is_covered():
    assert len(MEASUREMENTS) == 34
    assert set(MEASUREMENTS.values()) <= set(catalogue.variables())


def test_names_are_unique():
    assert catalogue.ranges()["variable"].is_unique().all()
    assert catalogue.drug_units()["drug"].is_unique().all()


def test_mimic3_items_name_known_concepts_once_each():
    items = catalogue.mimic3_items()
    known = {
        **dict.fromkeys(catalogue.variables(), "variable"),
        **dict.fromkeys(catalogue.drugs(), "drug"),
    }
    assert set(items["name"]) <= {*known, "specimen"}
    assert set(items.filter(kind="drug")["name"]) <= set(catalogue.drugs())
    assert items.select("table", "itemid", "name").is_duplicated().sum() == 0
    assert items["label"].null_count() == items["source"].null_count() == 0
    numbers = items.filter(pl.col("table").is_in(["chartevents", "labevents", "outputevents"]))
    assert (
        numbers["itemid"].is_unique().sum() >= numbers.height - 20
    )  # ventilator settings speak twice


def test_both_chart_systems_are_covered():
    items = catalogue.mimic3_items()
    for name in (
        "hr",
        "sbp",
        "dbp",
        "map",
        "resp",
        "temp",
        "o2sat",
        "fio2",
        "vgcs",
        "height",
        "weight",
        "urine",
        "vent",
    ):
        assert {"carevue", "metavision"} <= set(items.filter(name=name)["system"]), name
    variables = set(items.filter(pl.col("kind") != "drug")["name"]) - {"specimen"}
    assert len(variables) >= 60


def test_no_glucose_but_the_bloods():
    labels = set(catalogue.mimic3_items().filter(name="glu", table="labevents")["itemid"])
    assert labels == {50809, 50931}


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
def test_an_order_is_the_first_pattern_that_fits(order: str, drug: str | None):
    found = [
        row["drug"]
        for row in catalogue.mimic3_prescriptions().iter_rows(named=True)
        if re.search(row["pattern"], order.lower())
        and not (row["exclude_pattern"] and re.search(row["exclude_pattern"], order.lower()))
    ]
    assert (found[0] if found else None) == drug


@pytest.mark.parametrize(
    ("find", "typed", "meant"),
    [(catalogue.variable, "lacr", "lact"), (catalogue.drug, "vancomicin", "vancomycin")],
)
def test_a_mistyped_name_is_answered_with_the_nearest(find, typed: str, meant: str):
    assert find(meant).name == meant
    with pytest.raises(UsageError, match=f'did you mean "{meant}"'):
        find(typed)
