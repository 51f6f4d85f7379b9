"""Explanations name the drug that, by the ground truth, made the risk rise."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import logit

from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.simulated import (
    compute_dose_effects,
    compute_oracle,
    true_curves,
)
from flowsheet.compose import compose
from flowsheet.lifecycle.memory_study.rises import find_rises, rank_causes
from flowsheet.models.base import MODELS, Context
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler


def ward(stays):
    """The source, its tables and its windows without any earlier dose."""
    choices = ["cohort=simulated", "features=doses", f"cohort.options.stays={stays}"]
    config = compose("demo", choices)
    source = make_source(config.cohort)
    batches = list(source.batches())
    tables = Tables(*(pl.concat(getattr(b, table) for b in batches) for table in TABLES))
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(
        tables, config.task, config.features, source.variables, source.drugs, vocabulary
    )
    return source.options, tables, sequences


def true_log_odds(options):
    return logit(compute_oracle(options).sort("stay_id", "time")["probability"].to_numpy())


def test_the_effect_of_all_doses_is_the_sum_of_their_curves():
    options, tables, _ = ward(2)
    effects = compute_dose_effects(options).filter(stay_id=1, drug="propofol").sort("step")
    curve = true_curves(options).filter(drug="propofol").sort("lag")["effect"].to_numpy()
    admitted = tables.stays.filter(stay_id=1)["admitted_at"][0]
    doses = tables.treatments.filter(stay_id=1, drug="propofol")
    given = [
        (int((start - admitted).total_seconds() // 86_400) + 1, dose)
        for start, dose in doses.select("start", "dose").iter_rows()
    ]
    assert given
    for step, effect in effects.select("step", "effect").iter_rows():
        expected = sum(dose * curve[step - day] for day, dose in given if day <= step)
        assert effect == pytest.approx(expected)


def test_a_rise_is_a_drugs_if_its_effect_makes_most_of_it():
    options, _, sequences = ward(20)
    oracle = true_log_odds(options)
    effects = compute_dose_effects(options)
    rises = find_rises(sequences, oracle, effects)
    assert len(rises.rows) > 20
    at = {(row["stay_id"], row["step"], row["drug"]): row["effect"] for row in effects.to_dicts()}
    stay_ids = sequences.stay_id[sequences.row_stay]
    for row, drug in zip(rises.rows.tolist(), rises.drugs, strict=True):
        rise = oracle[row] - oracle[row - 1]
        stay, step = int(stay_ids[row]), int(sequences.step[row])
        assert step > 1
        assert rise >= 0.5
        assert at[stay, step, drug] - at[stay, step - 1, drug] >= rise / 2


@pytest.mark.slow
def test_a_trained_network_names_the_drug_first_in_four_rises_of_five():
    options, _, sequences = ward(1500)
    oracle = true_log_odds(options)
    is_tested = sequences.subject_id[sequences.row_stay] > 1440
    test = sequences.take(sequences.subject_id > 1440)
    train = sequences.take(sequences.subject_id <= 1300)
    valid = sequences.take((sequences.subject_id > 1300) & (sequences.subject_id <= 1440))
    scaler = Scaler.fit(train)
    model = MODELS.get("lstm")(MODELS.get("lstm").Params(epochs=25, input_dropout=0, dropout=0.05))
    model.fit(scaler.transform(train), scaler.transform(valid), Context(seed=1))
    rises = find_rises(test, oracle[is_tested], compute_dose_effects(options))
    ranks = rank_causes(model, scaler.transform(test), rises)
    assert len(ranks) > 100
    assert np.mean(ranks == 1) >= 0.75
