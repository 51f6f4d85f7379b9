"""Conformance tests for models: subclass ``ModelConformance`` in a test.

>>> class TestMyModel(ModelConformance):
...     kind = "logistic_regression"
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from flowsheet.config import Choice
from flowsheet.errors import FlowsheetError
from flowsheet.models._cohort_size import CohortSize, apply_rules
from flowsheet.models.base import MODELS, Context, Model, ModelFamily, Pruned
from flowsheet.numerics import log_loss, log_odds
from flowsheet.testing.sequences import FEATURES, LAGS, scramble, toy_sequences
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences


class ModelConformance:
    """The contract of ``Model`` as tests.

    Set ``kind`` to the registered name, and ``params`` if the defaults are slow to fit.
    """

    kind: ClassVar[str]
    params: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def train(cls) -> Sequences:
        """Sixty stays."""
        return cls().make_toy(60, 1)

    @pytest.fixture(scope="class")
    @classmethod
    def valid(cls) -> Sequences:
        """Thirty stays."""
        return cls().make_toy(30, 2)

    @pytest.fixture(scope="class")
    @classmethod
    def test(cls) -> Sequences:
        """Twenty stays."""
        return cls().make_toy(20, 3)

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, train: Sequences, valid: Sequences) -> Model:
        """Fitted with seed 1."""
        return cls().fit(train, valid)

    def make_toy(self, stays: int, seed: int) -> Sequences:
        """Toy sequences, scaled if the model requires it."""
        return toy_sequences(stays, seed, raw=not MODELS.get(self.kind).capabilities.scaled)

    def fit(self, train: Sequences, valid: Sequences, **context: Any) -> Model:
        """A new model, fitted with seed 1 unless ``context`` has another."""
        cls = MODELS.get(self.kind)
        model = cls(cls.Params(**self.params))
        model.fit(train, valid, Context(**{"seed": 1, **context}))
        return model

    def test_probabilities_have_shape_type_and_range(self, fitted: Model, test: Sequences) -> None:
        """One finite float64 in [0, 1] a row."""
        _check_probabilities(fitted.predict_proba(test), test)

    def test_it_learns(self, fitted: Model, train: Sequences) -> None:
        """On its training rows it has a lower log loss than the base rate; the floor no higher."""
        y, p = train.y[train.scored], fitted.predict_proba(train)[train.scored]
        is_floor = fitted.capabilities.family is ModelFamily.floor
        tolerance = 0.001 if is_floor else 0.0
        assert log_loss(y, p) < log_loss(y, np.full(len(y), y.mean())) + tolerance

    def test_rows_that_are_not_scored_do_not_count(
        self, fitted: Model, train: Sequences, valid: Sequences, test: Sequences
    ) -> None:
        """Their y may have any value."""
        flipped_train, flipped_valid = _flip_unscored(train), _flip_unscored(valid)
        other = self.fit(flipped_train, flipped_valid)
        _check_equal(other.predict_proba(test), fitted.predict_proba(test))

    def test_same_seed_same_result(
        self, fitted: Model, train: Sequences, valid: Sequences, test: Sequences
    ) -> None:
        """Bit for bit."""
        _check_equal(self.fit(train, valid).predict_proba(test), fitted.predict_proba(test))

    def test_save_and_load_change_nothing(
        self, fitted: Model, test: Sequences, tmp_path: Path
    ) -> None:
        """Bit for bit, and a loaded model saves the same again."""
        folders = [tmp_path / "once", tmp_path / "twice"]
        model = fitted
        for folder in folders:
            folder.mkdir()
            model.save(folder)
            model = MODELS.get(self.kind).load(folder)
        _check_equal(model.predict_proba(test), fitted.predict_proba(test))
        assert model.params == fitted.params

    def test_nothing_saved_is_a_pickle(self, fitted: Model, tmp_path: Path) -> None:
        """A file may contain arrays that torch reads with weights_only, but no pickled objects."""
        fitted.save(tmp_path)
        files = [f for f in tmp_path.rglob("*") if f.is_file()]
        assert files
        for file in files:
            _check_no_objects(file)

    def test_no_look_ahead(self, fitted: Model, test: Sequences) -> None:
        """Changes after row k of a stay do not change the predictions up to k, bit for bit."""
        before = fitted.predict_proba(test)
        for k in (1, 2, 5):
            later = test.step > k
            _check_equal(fitted.predict_proba(scramble(test, later))[~later], before[~later])

    def test_a_stay_gets_the_same_prediction_alone_as_among_others(
        self, fitted: Model, test: Sequences
    ) -> None:
        """Up to rounding."""
        together = fitted.predict_proba(test)
        alone = [fitted.predict_proba(test.take(np.array([s]))) for s in range(len(test))]
        np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)

    def test_the_order_of_stays_does_not_matter(self, fitted: Model, test: Sequences) -> None:
        """Up to rounding."""
        order = np.random.default_rng(4).permutation(len(test))
        shuffled = fitted.predict_proba(test.take(order))
        # As the only input column, the predictions are shuffled with their rows.
        predicted = fitted.predict_proba(test).astype(np.float32)[:, None]
        expected = replace(test, x=predicted).take(order).x[:, 0]
        np.testing.assert_allclose(shuffled, expected, atol=1e-5)

    def test_contributions_add_up_to_the_log_odds(self, fitted: Model, test: Sequences) -> None:
        """To 1e-6; for networks within 1% of the difference from the baseline."""
        rows = np.arange(test.rows)
        explained = fitted.explain(test, rows)
        expected = log_odds(fitted.predict_proba(test), smallest=1e-15)
        difference = expected - explained.baseline
        missed = np.abs(explained.totals.sum(axis=1) - difference)
        tolerance = 0.01 * np.abs(difference) if fitted.capabilities.gpu else 0.0
        assert (missed <= tolerance + 1e-6).all()
        np.testing.assert_allclose(explained.log_odds, expected, atol=1e-5)
        assert explained.totals.shape == (test.rows, len(FEATURES) + LAGS)

    def test_contributions_do_not_look_ahead(self, fitted: Model, test: Sequences) -> None:
        """They come from earlier rows of the stay, its own included; later ones change nothing."""
        rows = np.flatnonzero(test.step <= 3)
        before = fitted.explain(test, rows)
        after = fitted.explain(scramble(test, test.step > 3), rows)
        np.testing.assert_allclose(after.values, before.values, atol=1e-3)
        explained = np.repeat(rows, np.diff(before.offsets))
        assert (before.used_rows <= explained).all()
        assert (test.row_stay[before.used_rows] == test.row_stay[explained]).all()

    def test_a_loaded_model_explains_the_same(
        self, fitted: Model, test: Sequences, tmp_path: Path
    ) -> None:
        """Bit for bit."""
        fitted.save(tmp_path)
        loaded = MODELS.get(self.kind).load(tmp_path)
        rows = np.array([0, test.rows - 1])
        _check_equal(loaded.explain(test, rows).values, fitted.explain(test, rows).values)

    def test_an_input_that_is_never_known_contributes_nothing(
        self, fitted: Model, test: Sequences
    ) -> None:
        """And no rows have no contributions."""
        totals = fitted.explain(test, np.array([1, 5])).totals
        position = [feature.name for feature in FEATURES].index("never_measured")
        assert np.abs(totals[:, position]).max() < 1e-6
        assert fitted.explain(test, np.array([], dtype=np.int64)).totals.shape[0] == 0

    def test_missing_values(self, fitted: Model, test: Sequences) -> None:
        """A row without any value gets a probability too."""
        missing = 0.0 if fitted.capabilities.scaled else np.nan
        empty_rows = replace(
            test,
            x=np.full_like(test.x, missing),
            history=np.full_like(test.history, np.nan),
        )
        _check_probabilities(fitted.predict_proba(empty_rows), empty_rows)

    def test_no_stays_no_probabilities(self, fitted: Model, test: Sequences) -> None:
        """Shape (0,)."""
        empty = test.take(np.array([], dtype=np.int64))
        _check_probabilities(fitted.predict_proba(empty), empty)

    @pytest.mark.parametrize("only", [0, 1])
    def test_training_data_of_one_class(
        self, train: Sequences, valid: Sequences, test: Sequences, only: int
    ) -> None:
        """The model falls back to the base rate."""
        model = self.fit(
            replace(train, y=np.full_like(train.y, only)),
            replace(valid, y=np.full_like(valid.y, only)),
        )
        p = model.predict_proba(test)
        _check_probabilities(p, test)
        assert abs(p.mean() - only) < 0.5
        explained = model.explain(test, np.array([0]))
        assert (explained.values == 0).all()
        assert explained.baseline[0] == pytest.approx(float(log_odds(p[:1])[0]))

    def test_a_single_subject(self, train: Sequences, valid: Sequences, test: Sequences) -> None:
        """One subject's two stays are enough to fit the model."""
        positives = np.add.reduceat(train.y.astype(np.int64), train.offsets[:-1:2])
        subject = train.subject_id[2 * int(np.argmax(positives))]
        model = self.fit(train.select_subjects(np.array([subject])), valid)
        _check_probabilities(model.predict_proba(test), test)

    def test_no_validation_rows(self, train: Sequences, valid: Sequences, test: Sequences) -> None:
        """No stays at all, or none of their rows scored."""
        no_stays = valid.take(np.array([], dtype=np.int64))
        none_scored = replace(valid, scored=np.zeros_like(valid.scored))
        for empty in (no_stays, none_scored):
            _check_probabilities(self.fit(train, empty).predict_proba(test), test)

    def test_other_inputs_are_rejected(self, fitted: Model, test: Sequences) -> None:
        """Inputs with a missing column are an error."""
        fewer = replace(test, x=test.x[:, :-1], features=test.features[:-1])
        with pytest.raises(FlowsheetError):
            fitted.predict_proba(fewer)

    def test_the_tuner_can_prune(self, train: Sequences, valid: Sequences) -> None:
        """``Pruned`` passes through a fit that reports scores."""
        if not MODELS.get(self.kind).capabilities.early_stopping:
            pytest.skip("does not report while it fits")

        def prune(step: int, value: float) -> None:
            assert np.isfinite(value)
            raise Pruned

        with pytest.raises(Pruned):
            self.fit(train, valid, report_score=prune)

    def test_the_search_space_fits_the_parameters(self) -> None:
        """Every key is a parameter, the default is inside, and the bounds are allowed values."""
        cls = MODELS.get(self.kind)
        rules = apply_rules(cls.size_rules, CohortSize(subjects=500, prevalence=0.02))
        defaults = {**cls.Params().model_dump(), **rules}
        assert set(cls.space) <= set(defaults)
        for name, choice in cls.space.items():
            default = defaults[name]
            if isinstance(choice, Choice):
                values = choice.of
                is_inside = default in values
            else:
                values = (choice.low, choice.high)
                is_inside = choice.low <= default <= choice.high
            assert is_inside, f"the default of {name}, {default}, is outside its search space"
            for value in values:
                cls.Params(**{name: value})

    def test_defaults_by_the_size_of_the_cohort_are_valid(self) -> None:
        """A default of None has a rule, which gives an allowed value for every cohort."""
        cls = MODELS.get(self.kind)
        defaults = cls.Params().model_dump()
        for subjects in (0, 1, 30, 1_000, 100_000):
            values = apply_rules(cls.size_rules, CohortSize(subjects, prevalence=0.05))
            assert all(defaults[name] is None for name in values)
            assert cls.Params(**values).model_dump() == {**defaults, **values}

    def test_tables_are_frames_by_name(self, fitted: Model) -> None:
        """Each name is an identifier."""
        for name, table in fitted.tables().items():
            assert name.isidentifier()
            assert isinstance(table, pl.DataFrame)


def _flip_unscored(sequences: Sequences) -> Sequences:
    """The other y in rows that are not scored."""
    y = np.where(sequences.scored, sequences.y, 1 - sequences.y).astype(np.int8)
    return replace(sequences, y=y)


def _check_probabilities(p: Floats, sequences: Sequences) -> None:
    assert p.shape == (sequences.rows,)
    assert p.dtype == np.float64
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()


def _check_equal(a: Floats, b: Floats) -> None:
    assert a.tobytes() == b.tobytes()


def _check_no_objects(file: Path) -> None:
    head = file.read_bytes()[:2]
    assert not (head[:1] == b"\x80" and head[1:] <= b"\x05"), f"{file.name} is a pickle"
    if zipfile.is_zipfile(file) and file.suffix != ".npz":
        import torch

        torch.load(file, map_location="cpu", weights_only=True)
    elif file.suffix in (".npy", ".npz"):
        loaded = np.load(file, allow_pickle=False)
        assert all(loaded[name].dtype != object for name in getattr(loaded, "files", []))
