"""Comorbidity by codes of ICD-9-CM and ICD-10: the same diagnosis has the same points."""

from __future__ import annotations

import polars as pl
import pytest

from flowsheet.cohort.comorbidity import score_comorbidity

PAIRS = [
    ("410.71", "I21.4"),  # myocardial infarction
    ("428.0", "I50.9"),  # congestive heart failure
    ("440.21", "I70.211"),  # atherosclerosis of the legs
    ("434.91", "I63.9"),  # stroke
    ("290.0", "F03.90"),  # dementia
    ("496", "J44.9"),  # chronic obstructive pulmonary disease
    ("714.0", "M06.9"),  # rheumatoid arthritis
    ("571.2", "K70.30"),  # alcoholic cirrhosis
    ("572.4", "K76.7"),  # hepatorenal syndrome
    ("250.00", "E11.9"),  # diabetes
    ("250.40", "E11.21"),  # diabetes with nephropathy
    ("342.90", "G81.90"),  # hemiplegia
    ("585.6", "N18.6"),  # end-stage renal disease
    ("162.9", "C34.90"),  # cancer of the lung
    ("197.7", "C78.7"),  # metastasis in the liver
    ("202.80", "C85.90"),  # lymphoma
    ("042", "B20"),  # AIDS
    ("427.31", "I48.91"),  # atrial fibrillation
    ("424.1", "I35.0"),  # aortic stenosis
    ("416.0", "I27.0"),  # pulmonary hypertension
    ("401.9", "I10"),  # hypertension
    ("244.9", "E03.9"),  # hypothyroidism
    ("287.5", "D69.6"),  # thrombocytopenia
    ("278.00", "E66.9"),  # obesity
    ("261", "E41"),  # nutritional marasmus
    ("276.1", "E87.1"),  # hyponatraemia
    ("280.0", "D50.0"),  # anaemia by loss of blood
    ("305.00", "F10.10"),  # abuse of alcohol
    ("304.00", "F11.20"),  # opioid dependence
    ("295.90", "F20.9"),  # schizophrenia
    ("311", "F32.9"),  # depression
    ("780.6", "R50.9"),  # fever: none
]


def score(*codes: tuple[int, str]) -> tuple[float, float]:
    rows = [{"stay_id": 1, "version": version, "code": code} for version, code in codes]
    (found,) = score_comorbidity(pl.DataFrame(rows)).rows()
    return found[1], found[2]


@pytest.mark.parametrize(("icd9", "icd10"), PAIRS)
def test_a_diagnosis_has_the_same_points_by_either_version(icd9: str, icd10: str):
    assert score((9, icd9)) == score((10, icd10))


def test_a_condition_counts_once_over_both_versions():
    assert score((9, "428.0"), (10, "I50.9")) == score((9, "428.0")) == (2.0, 7.0)


def test_a_severer_condition_of_the_other_version_supersedes():
    assert score((10, "C61"), (9, "197.7")) == score((9, "197.7")) == (6.0, 12.0)


def test_codes_are_read_in_their_own_version():
    """E86 is a poisoning in ICD-9-CM and loss of fluid in ICD-10."""
    assert score((9, "E86")) == (0.0, 0.0)
    assert score((10, "E86")) == (0.0, 5.0)
