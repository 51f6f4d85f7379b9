"""Laws that hold for all tables, tasks and features."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.testing.tables import DRUGS, VARIABLES, random_tables
from flowsheet.windows.build import build_sequences
from flowsheet.windows.grid import Grid
from flowsheet.windows.sequences import Sequences

VOCABULARY = {"sex": ["F", "M"], "unit": ["MICU"], "site": ["A"], "admission_type": []}
FEATURES = FeaturesConfig(
    name="all",
    aggregations=("last", "mean", "min", "max", "count"),
    carry_forward_hours=12,
    carry_forward_by_variable={"lact": 0, "wbc": 30},
    statics=("age", "weight_kg", "sex", "unit", "site", "admission_type", "hours_in_hospital"),
)
EXAMPLES = settings(max_examples=25, deadline=None)

tasks = st.sampled_from(
    [
        TaskConfig(name="next_day", history_lags=3),
        TaskConfig(name="early", step_hours=1, horizon=6, censor="keep", history_lags=2),
        TaskConfig(name="same_day", horizon=0, cutoff_hours=8),
        TaskConfig(name="quarter", step_hours=6, horizon=2, response="onset", max_steps=4),
    ]
)


def build(tables: Tables, task: TaskConfig, **options) -> Sequences:
    return build_sequences(tables, task, FEATURES, VARIABLES, DRUGS, VOCABULARY, **options)


def assert_same_inputs(
    one: Sequences, other: Sequences, rows=slice(None), others=slice(None)
) -> None:
    """Bit for bit, NaN included."""
    assert one.features == other.features
    assert one.step[rows].tolist() == other.step[others].tolist()
    for name in ("x", "history"):
        here, there = getattr(one, name)[rows], getattr(other, name)[others]
        np.testing.assert_array_equal(here, there)
        assert here.tobytes() == there.tobytes()


def assert_same(one: Sequences, other: Sequences) -> None:
    assert_same_inputs(one, other)
    for name in ("y", "scored", "in_state", "offsets", "stay_id", "subject_id"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def known(tables: Tables, time: pl.Expr | pl.Series) -> Tables:
    """What was in the record by then."""
    now = pl.lit(time)
    return replace(
        tables,
        events=tables.events.filter(pl.max_horizontal("time", "known_at") <= now),
        treatments=tables.treatments.filter(pl.max_horizontal("start", "known_at") <= now),
        episodes=tables.episodes.filter(pl.max_horizontal("onset", "known_at") <= now),
    )


def other_future(tables: Tables, other: Tables, time, delay: timedelta) -> Tables:
    """The same until then; afterwards the facts of another record, and other ends of what goes on."""

    def joined(name: str, start: str) -> pl.DataFrame:
        old = getattr(known(tables, time), name)
        new = getattr(other, name).filter(pl.max_horizontal(start, "known_at") > pl.lit(time))
        rows = pl.concat([old, new])
        if "end" not in rows.columns:
            return rows
        ends = (pl.col("end") > pl.lit(time)) & (pl.col("end") > pl.col(start))
        return rows.with_columns(
            end=pl.when(ends).then(pl.max_horizontal(start, pl.lit(time)) + delay).otherwise("end")
        )

    return replace(
        tables,
        events=joined("events", "time"),
        treatments=joined("treatments", "start"),
        episodes=joined("episodes", "onset"),
    )


def instant(microseconds):
    return pl.Series([microseconds]).cast(pl.Datetime("us"))[0]


@settings(max_examples=60, deadline=None)
@given(random_tables(), random_tables(), tasks, st.integers(0, 2**31), st.integers(1, 200))
def test_no_look_ahead(tables, other, task, pick, delay):
    predicted_at = Grid.from_stays(tables.stays, task).predicted_at
    now = predicted_at[pick % len(predicted_at)]
    past = predicted_at <= now
    changed = other_future(tables, other, instant(now), timedelta(minutes=15 * delay))
    assert_same_inputs(build(tables, task), build(changed, task), past, past)


@EXAMPLES
@given(random_tables(max_stays=1), tasks, st.data())
def test_a_record_cut_at_a_prediction_gives_the_same_rows_up_to_it(tables, task, data):
    whole, grid = build(tables, task), Grid.from_stays(tables.stays, task)
    row = data.draw(st.integers(0, grid.rows - 1))
    if grid.predicted_at[row] <= grid.begun[0]:
        return  # before the record begins there is nothing to cut
    now = instant(grid.predicted_at[row])
    cut = known(tables, now)
    cut = replace(
        cut, stays=cut.stays.with_columns(discharged_at=pl.lit(now).cast(pl.Datetime("us")))
    )
    assert_same_inputs(build(cut, task), whole, others=slice(0, row + 1))


@EXAMPLES
@given(random_tables(), tasks, st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(tables, task, seed):
    shuffled = Tables(
        *(table.sample(fraction=1, shuffle=True, seed=seed) for table in vars(tables).values())
    )
    assert_same(build(tables, task), build(shuffled, task))


@EXAMPLES
@given(random_tables(), tasks, st.integers(1, 30))
def test_chunks_do_not_matter(tables, task, rows):
    assert_same(build(tables, task), build(tables, task, chunk_rows=rows))


@EXAMPLES
@given(random_tables(), tasks)
def test_a_stay_alone_is_the_stay_in_company(tables, task):
    together = build(tables, task)
    for i, stay in enumerate(together.stay_id.tolist()):
        alone = Tables(
            *(table.filter(pl.col("stay_id") == stay) for table in vars(tables).values())
        )
        assert_same(build(alone, task), together.take(np.array([i])))


@settings(max_examples=10, deadline=None)
@given(tables=random_tables(), task=tasks)
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, tables, task):
    folder = tmp_path_factory.mktemp("sequences")
    sequences = build(tables, task)
    sequences.save(folder)
    assert_same(sequences, Sequences.load(folder))
    assert_same(sequences, sequences.take(np.arange(len(sequences))))
