"""What every model must keep: subclass :class:`ModelConformance` in a test and name the model.

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
from flowsheet.models.base import MODELS, Context, Model, Pruned
from flowsheet.numerics import log_loss
from flowsheet.typing import AnyArray, Bools, Floats, Floats32, Ints32
from flowsheet.windows.sequences import Feature, Sequences

FEATURES = (
    Feature("hr", "value", "hr"),
    Feature("lactate", "value", "lactate"),
    Feature("never_measured", "value", "never_measured"),
    Feature("hr_missing", "missing", "hr"),
    Feature("lactate_missing", "missing", "lactate"),
    Feature("never_measured_missing", "missing", "never_measured"),
    Feature("lactate_since", "since", "lactate"),
    Feature("dose", "treatment", "dose"),
    Feature("age", "static", "age"),
    Feature("same_for_all", "static", "same_for_all"),
    Feature("hours", "time", "hours"),
)
_LAGS = 3


def toy_sequences(stays: int, seed: int, raw: bool) -> Sequences:
    """A few stays of 1 to 12 steps with two stays for some subjects, NaN, a column of NaN and a
    constant one.

    The next state depends on the state, the values and the dose, so that every model family has something
    to learn. ``raw``: with NaN, in natural units; otherwise scaled and without NaN. The arrays
    cannot be written to.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 13, stays)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    step = np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32)
    n = len(step)
    hr, lactate, dose = rng.normal(size=n), rng.normal(size=n), rng.binomial(1, 0.2, n) * 1.0
    state = np.zeros(n + 1)
    for k in range(n):
        before = state[k] if step[k] > 1 else 0.0
        state[k + 1] = rng.random() < 1 / (1 + np.exp(2 - 1.5 * hr[k] - 3 * before + 1.5 * dose[k]))
    history = np.stack(
        [np.where(step > j, np.roll(state[:-1], j), np.nan) for j in range(_LAGS)], axis=1
    )
    history[step == 1, 0] = 0.0
    age = np.repeat(rng.normal(size=stays), lengths)
    x = _inputs(rng, np.stack([hr, lactate, dose, age]), step, raw)
    arrays: dict[str, Any] = {
        "x": x,
        "y": state[1:].astype(np.int8),
        "scored": rng.random(n) < 0.85,
        "in_state": history[:, 0] == 1,
        "history": history.astype(np.float32),
        "step": step,
        "offsets": offsets,
        "stay_id": np.arange(stays, dtype=np.int64) + 10,
        "subject_id": np.arange(stays, dtype=np.int64) // 2 * 2 + 100,
    }
    for array in arrays.values():
        array.flags.writeable = False
    return Sequences(**arrays, features=FEATURES)


def plain_sequences(
    x: AnyArray, y: AnyArray, history: AnyArray | None = None, length: int = 1
) -> Sequences:
    """Rows (N, F) and (N,) as stays of ``length`` rows, a subject each; all values, all scored, history (N, P)."""
    n = len(y)
    offsets = np.append(np.arange(0, n, length), n).astype(np.int64)
    return Sequences(
        x=x.astype(np.float32),
        y=y.astype(np.int8),
        scored=np.ones(n, dtype=bool),
        in_state=np.zeros(n, dtype=bool),
        history=np.empty((n, 0), dtype=np.float32)
        if history is None
        else history.astype(np.float32),
        step=(np.arange(n) % length + 1).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(len(offsets) - 1),
        subject_id=np.arange(len(offsets) - 1),
        features=tuple(Feature(f"x{j}", "value", f"x{j}") for j in range(x.shape[1])),
    )


def _inputs(rng: np.random.Generator, signals: Floats, step: Ints32, raw: bool) -> Floats32:
    hr, lactate, dose, age = signals
    n = len(hr)
    no_hr, no_lactate = rng.random(n) < 0.1, rng.random(n) < 0.6
    since = np.where(no_lactate, rng.integers(1, 9, n), 0.0)
    if raw:
        hr, lactate, age = 90 + 15 * hr, np.exp(lactate), 60 + 15 * age
        hr, lactate = (
            np.where(no_hr, np.nan, hr),
            np.where(no_lactate & (since > 6), np.nan, lactate),
        )
        never, same, hours = np.full(n, np.nan), np.full(n, 7.0), step * 1.0
    else:
        hr, lactate, since = hr * ~no_hr, lactate * ~no_lactate, (since - 3) / 3
        never, same, hours = np.zeros(n), np.zeros(n), step * 0.2
    columns = [hr, lactate, never, no_hr, no_lactate, np.ones(n), since, dose, age, same, hours]
    return np.stack(columns, axis=1).astype(np.float32)


class ModelConformance:
    """The contract of :class:`flowsheet.models.base.Model` as tests.

    Set ``kind`` to the registered name, and ``params`` where the defaults take long.
    """

    kind: ClassVar[str]
    params: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class")
    def train(self) -> Sequences:
        """Sixty stays."""
        return self.toy(60, 1)

    @pytest.fixture(scope="class")
    def valid(self) -> Sequences:
        """Thirty stays."""
        return self.toy(30, 2)

    @pytest.fixture(scope="class")
    def test(self) -> Sequences:
        """Twenty stays."""
        return self.toy(20, 3)

    @pytest.fixture(scope="class")
    def fitted(self, train: Sequences, valid: Sequences) -> Model:
        """Fitted with seed 1."""
        return self.fit(train, valid)

    def toy(self, stays: int, seed: int) -> Sequences:
        """Toy sequences as this model wants them."""
        return toy_sequences(stays, seed, raw=not MODELS.get(self.kind).capabilities.scaled)

    def fit(self, train: Sequences, valid: Sequences, **context: Any) -> Model:
        """A new model, fitted with seed 1 unless told otherwise."""
        cls = MODELS.get(self.kind)
        model = cls(cls.Params(**self.params))
        model.fit(train, valid, Context(**{"seed": 1, **context}))
        return model

    def test_probabilities_have_shape_type_and_range(self, fitted: Model, test: Sequences) -> None:
        """One finite float64 in [0, 1] a row."""
        _check_probabilities(fitted.predict_proba(test), test)

    def test_it_learns(self, fitted: Model, train: Sequences) -> None:
        """On its own training rows it is better than the base rate."""
        y, p = train.y[train.scored], fitted.predict_proba(train)[train.scored]
        assert log_loss(y, p) < log_loss(y, np.full(len(y), y.mean()))

    def test_rows_that_are_not_scored_do_not_count(
        self, fitted: Model, train: Sequences, valid: Sequences, test: Sequences
    ) -> None:
        """Their y may be anything."""
        other = self.fit(
            *(
                replace(s, y=np.where(s.scored, s.y, 1 - s.y).astype(np.int8))
                for s in (train, valid)
            )
        )
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
        """A file may hold arrays that torch reads with weights_only, but no object of any kind."""
        fitted.save(tmp_path)
        files = [f for f in tmp_path.rglob("*") if f.is_file()]
        assert files
        for file in files:
            _check_no_objects(file)

    def test_no_look_ahead(self, fitted: Model, test: Sequences) -> None:
        """Whatever comes after row k of a stay, the predictions up to k stay the same, bit for bit."""
        before = fitted.predict_proba(test)
        for k in (1, 2, 5):
            later = test.step > k
            _check_equal(fitted.predict_proba(_scramble(test, later))[~later], before[~later])

    def test_a_stay_alone_is_as_in_company(self, fitted: Model, test: Sequences) -> None:
        """Up to rounding."""
        together = fitted.predict_proba(test)
        alone = [fitted.predict_proba(test.take(np.array([s]))) for s in range(len(test))]
        np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)

    def test_the_order_of_stays_does_not_matter(self, fitted: Model, test: Sequences) -> None:
        """Up to rounding."""
        order = np.random.default_rng(4).permutation(len(test))
        shuffled = fitted.predict_proba(test.take(order))
        together = (
            replace(test, x=fitted.predict_proba(test).astype(np.float32)[:, None])
            .take(order)
            .x[:, 0]
        )
        np.testing.assert_allclose(shuffled, together, atol=1e-5)

    def test_missing_values(self, fitted: Model, test: Sequences) -> None:
        """A row of which nothing is known gets a probability too."""
        nothing = (
            np.zeros_like(test.x) if fitted.capabilities.scaled else np.full_like(test.x, np.nan)
        )
        unknown = replace(test, x=nothing, history=np.full_like(test.history, np.nan))
        _check_probabilities(fitted.predict_proba(unknown), unknown)

    def test_no_stays_no_probabilities(self, fitted: Model, test: Sequences) -> None:
        """Shape (0,)."""
        nobody = test.take(np.array([], dtype=np.int64))
        _check_probabilities(fitted.predict_proba(nobody), nobody)

    @pytest.mark.parametrize("only", [0, 1])
    def test_training_data_of_one_class(
        self, train: Sequences, valid: Sequences, test: Sequences, only: int
    ) -> None:
        """Falls back to the base rate."""
        model = self.fit(*(replace(s, y=np.full_like(s.y, only)) for s in (train, valid)))
        p = model.predict_proba(test)
        _check_probabilities(p, test)
        assert abs(p.mean() - only) < 0.5

    def test_a_single_subject(self, train: Sequences, valid: Sequences, test: Sequences) -> None:
        """One subject's two stays are enough to fit something."""
        events = [
            train.y[train.offsets[s] : train.offsets[s + 2]].sum() for s in range(0, len(train), 2)
        ]
        subject = train.subject_id[2 * int(np.argmax(events))]
        model = self.fit(train.select_subjects(np.array([subject])), valid)
        _check_probabilities(model.predict_proba(test), test)

    def test_no_validation_rows(self, train: Sequences, valid: Sequences, test: Sequences) -> None:
        """No stays at all, or none of their rows scored."""
        for empty in (
            valid.take(np.array([], dtype=np.int64)),
            replace(valid, scored=np.zeros_like(valid.scored)),
        ):
            _check_probabilities(self.fit(train, empty).predict_proba(test), test)

    def test_other_inputs_are_refused(self, fitted: Model, test: Sequences) -> None:
        """One column less is not the same table."""
        fewer = replace(test, x=test.x[:, :-1], features=test.features[:-1])
        with pytest.raises(FlowsheetError):
            fitted.predict_proba(fewer)

    def test_the_tuner_can_give_up(self, train: Sequences, valid: Sequences) -> None:
        """``Pruned`` passes through a fit that reports."""
        if not MODELS.get(self.kind).capabilities.early_stopping:
            pytest.skip("does not report while it fits")

        def give_up(step: int, value: float) -> None:
            assert np.isfinite(value)
            raise Pruned

        with pytest.raises(Pruned):
            self.fit(train, valid, report_score=give_up)

    def test_the_search_space_fits_the_parameters(self) -> None:
        """Every key is a parameter, the default lies inside, and the bounds are allowed values."""
        cls = MODELS.get(self.kind)
        defaults = cls.Params().model_dump()
        assert set(cls.space) <= set(defaults)
        for name, choice in cls.space.items():
            ends = choice.of if isinstance(choice, Choice) else (choice.low, choice.high)
            inside = (
                defaults[name] in ends
                if isinstance(choice, Choice)
                else ends[0] <= defaults[name] <= ends[1]
            )
            assert inside, f"the default of {name}, {defaults[name]}, is not in its own space"
            for end in ends:
                cls.Params(**{name: end})

    def test_tables_can_be_shown(self, fitted: Model) -> None:
        """Frames by name."""
        for name, table in fitted.tables().items():
            assert name.isidentifier()
            assert isinstance(table, pl.DataFrame)


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


def _scramble(sequences: Sequences, rows: Bools) -> Sequences:
    """Other inputs, history and y in the chosen rows."""
    rng = np.random.default_rng(5)
    x, history = sequences.x.copy(), sequences.history.copy()
    x[rows] = rng.permutation(x[rows]) * 2 + 1
    history[rows] = rng.integers(0, 2, history[rows].shape)
    y = np.where(rows, 1 - sequences.y, sequences.y).astype(np.int8)
    return replace(sequences, x=x, history=history, y=y)
