"""Properties of sequences that hold for all tables, tasks and features."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.schema import OUTCOME_COLUMNS, Tables
from flowsheet.config import (
    Bound,
    Censor,
    FeaturesConfig,
    MovingAverage,
    PastConfig,
    PastWindow,
    Target,
    TaskConfig,
    VariableSelection,
)
from flowsheet.testing.tables import DRUGS, VARIABLES, random_tables
from flowsheet.windows.build import build_sequences, iter_sequences
from flowsheet.windows.grid import Grid
from flowsheet.windows.sequences import Sequences, save_index, save_shard

VOCABULARY = {"sex": ["F", "M"], "unit": ["MICU"], "site": ["A"], "admission_type": []}
FEATURES = FeaturesConfig(
    name="all",
    aggregations=("last", "mean", "min", "max", "count"),
    carry_forward_hours=12,
    carry_forward_by_variable={"lact": 0, "wbc": 30},
    statics=("age", "weight_kg", "sex", "unit", "site", "admission_type", "hours_in_hospital"),
    past=PastConfig(
        windows=(
            PastWindow(hours=8, statistics=("min", "max", "mean", "sd", "count", "slope")),
            PastWindow(statistics=("min", "max", "mean", "sd", "count", "slope")),
        ),
        averages=(MovingAverage(half_life_hours=5),),
        changes=VariableSelection(),
        bounds=(Bound(variable="hr", above=50, hours=24), Bound(variable="lact", below=50)),
        derived="all",
    ),
)
EXAMPLES = settings(max_examples=25, deadline=None)

tasks = st.sampled_from(
    [
        TaskConfig(name="next_day", history_lags=3),
        TaskConfig(name="early", step_hours=1, horizon=6, censor="keep", history_lags=2),
        TaskConfig(name="same_day", horizon=0, cutoff_hours=8),
        TaskConfig(name="quarter", step_hours=6, horizon=2, target="onset", max_steps=4),
        TaskConfig(name="ends_early", censor="competing", end_at="comfort_measures"),
    ]
)


def build(tables: Tables, task: TaskConfig, **options) -> Sequences:
    return build_sequences(tables, task, FEATURES, VARIABLES, DRUGS, VOCABULARY, **options)


def assert_same_inputs(
    one: Sequences, other: Sequences, rows=slice(None), other_rows=slice(None)
) -> None:
    """The inputs are equal bit for bit, including NaN."""
    assert one.features == other.features
    assert one.step[rows].tolist() == other.step[other_rows].tolist()
    for name in ("x", "history"):
        actual = getattr(one, name)[rows]
        expected = getattr(other, name)[other_rows]
        np.testing.assert_array_equal(actual, expected)
        assert actual.tobytes() == expected.tobytes()


def assert_same(one: Sequences, other: Sequences) -> None:
    assert_same_inputs(one, other)
    for name in (
        "y",
        "scored",
        "in_state",
        "excluded",
        "before_treatment",
        "offsets",
        "stay_id",
        "subject_id",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def known_until(tables: Tables, time: datetime) -> Tables:
    """What was in the record at that time."""
    now = pl.lit(time)
    return replace(
        tables,
        events=tables.events.filter(pl.max_horizontal("time", "known_at") <= now),
        treatments=tables.treatments.filter(pl.max_horizontal("start", "known_at") <= now),
        episodes=tables.episodes.filter(pl.max_horizontal("onset", "known_at") <= now),
    )


def replace_future(tables: Tables, other: Tables, time: datetime, delay: timedelta) -> Tables:
    """The same until that time, and another record afterwards.

    What continues at that time ends after ``delay``.
    """
    now = pl.lit(time)

    def replace_rows(name: str, start: str) -> pl.DataFrame:
        past = getattr(known_until(tables, time), name)
        future = getattr(other, name).filter(pl.max_horizontal(start, "known_at") > now)
        rows = pl.concat([past, future])
        if "end" not in rows.columns:
            return rows
        continues = (pl.col("end") > now) & (pl.col("end") > pl.col(start))
        other_end = pl.max_horizontal(start, now) + delay
        return rows.with_columns(end=pl.when(continues).then(other_end).otherwise("end"))

    return replace(
        tables,
        events=replace_rows("events", "time"),
        treatments=replace_rows("treatments", "start"),
        episodes=replace_rows("episodes", "onset"),
    )


def to_datetime(microseconds: int) -> datetime:
    return pl.Series([microseconds]).cast(pl.Datetime("us"))[0]


@settings(max_examples=60, deadline=None)
@given(random_tables(), random_tables(), tasks, st.integers(0, 2**31), st.integers(1, 200))
def test_no_look_ahead(tables, other, task, pick, delay):
    predicted_at = Grid.from_stays(tables.stays, task).predicted_at
    now = predicted_at[pick % len(predicted_at)]
    past = predicted_at <= now
    changed = replace_future(tables, other, to_datetime(now), timedelta(minutes=15 * delay))
    assert_same_inputs(build(tables, task), build(changed, task), past, past)


@EXAMPLES
@given(random_tables(), random_tables(), tasks, st.sampled_from(["complete", "keep", "competing"]))
def test_the_rows_of_a_state_task_do_not_depend_on_outcomes(tables, other, task, censor):
    task = task.model_copy(update={"target": Target.state, "censor": Censor(censor)})
    with_other_outcomes = replace(tables, episodes=other.episodes)
    without_outcomes = replace(tables, episodes=other.episodes.clear())
    scored = build(tables, task).scored
    np.testing.assert_array_equal(scored, build(with_other_outcomes, task).scored)
    np.testing.assert_array_equal(scored, build(without_outcomes, task).scored)


@EXAMPLES
@given(random_tables(), random_tables(), tasks, st.integers(0, 2**31))
def test_the_rows_of_an_onset_task_depend_on_earlier_onsets_only(tables, other, task, pick):
    task = task.model_copy(update={"target": Target.onset})
    tables, other = (
        replace(t, episodes=t.episodes.with_columns(present_on_admission=pl.lit(value=None)))
        for t in (tables, other)
    )
    predicted_at = Grid.from_stays(tables.stays, task).predicted_at
    now = predicted_at[pick % len(predicted_at)]
    is_past = pl.col("onset") <= pl.lit(to_datetime(now))
    episodes = pl.concat([tables.episodes.filter(is_past), other.episodes.filter(~is_past)])
    changed = build(replace(tables, episodes=episodes), task)
    rows = predicted_at <= now
    np.testing.assert_array_equal(build(tables, task).scored[rows], changed.scored[rows])


@EXAMPLES
@given(random_tables(), tasks)
def test_nothing_is_scored_after_death(tables, task):
    sequences = build(tables, task)
    predicted_at = Grid.from_stays(tables.stays, task).predicted_at
    died_at = tables.stays.sort("stay_id")["died_at"].fill_null(datetime.max)
    died_at_of_row = died_at.dt.timestamp("us").to_numpy()[sequences.row_stay]
    assert (predicted_at <= died_at_of_row)[sequences.scored].all()


@EXAMPLES
@given(random_tables(), random_tables(), tasks)
def test_what_tells_the_end_of_a_stay_is_no_input(tables, other, task):
    """Neither death nor comfort measures change a row's inputs."""
    columns = ["stay_id", *OUTCOME_COLUMNS, "comfort_measures_at"]
    stays = tables.stays.drop(columns[1:]).join(
        other.stays.select(columns), on="stay_id", how="left", maintain_order="left"
    )
    changed = replace(tables, stays=stays.select(tables.stays.columns))
    assert_same_inputs(build(tables, task), build(changed, task))


@EXAMPLES
@given(random_tables(max_stays=1), tasks, st.data())
def test_a_record_that_ends_at_a_prediction_gives_the_same_rows_until_then(tables, task, data):
    whole = build(tables, task)
    grid = Grid.from_stays(tables.stays, task)
    row = data.draw(st.integers(0, grid.rows - 1))
    if grid.predicted_at[row] <= grid.record_start[0]:
        return  # the shortened record would be empty
    now = to_datetime(grid.predicted_at[row])
    discharged_at = pl.lit(now).cast(pl.Datetime("us"))
    shortened = known_until(tables, now)
    shortened = replace(shortened, stays=shortened.stays.with_columns(discharged_at=discharged_at))
    assert_same_inputs(build(shortened, task), whole, other_rows=slice(0, row + 1))


@EXAMPLES
@given(random_tables(), tasks, st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(tables, task, seed):
    shuffled = Tables(
        *(table.sample(fraction=1, shuffle=True, seed=seed) for table in vars(tables).values())
    )
    assert_same(build(tables, task), build(shuffled, task))


@EXAMPLES
@given(random_tables(), tasks, st.integers(1, 30))
def test_the_size_of_chunks_does_not_matter(tables, task, rows):
    assert_same(build(tables, task), build(tables, task, chunk_rows=rows))


@EXAMPLES
@given(random_tables(), tasks)
def test_the_rows_of_a_stay_do_not_depend_on_other_stays(tables, task):
    together = build(tables, task)
    for i, stay in enumerate(together.stay_id.tolist()):
        alone = Tables(
            *(table.filter(pl.col("stay_id") == stay) for table in vars(tables).values())
        )
        assert_same(build(alone, task), together.take(np.array([i])))


@settings(max_examples=10, deadline=None)
@given(tables=random_tables(), task=tasks)
def test_saved_sequences_are_loaded_unchanged(tmp_path_factory, tables, task):
    folder = tmp_path_factory.mktemp("sequences")
    sequences = build(tables, task)
    sequences.save(folder)
    assert_same(sequences, Sequences.load(folder))
    assert_same(sequences, sequences.take(np.arange(len(sequences))))


SHARDS = ("b", "a", "c")


@settings(max_examples=10, deadline=None)
@given(
    tables=random_tables(max_stays=5),
    task=tasks,
    chunk_rows=st.integers(1, 40),
    shard_of_stay=st.lists(st.integers(0, 2), min_size=5, max_size=5),
)
def test_stays_in_any_shards_are_those_in_memory(
    tmp_path_factory, tables, task, chunk_rows, shard_of_stay
):
    folder = tmp_path_factory.mktemp("shards")
    located = []
    for shard, name in enumerate(SHARDS):
        chosen = [i + 1 for i, of_stay in enumerate(shard_of_stay) if of_stay == shard]
        stays = Tables(
            *(rows.filter(pl.col("stay_id").is_in(chosen)) for rows in vars(tables).values())
        )
        arguments = (stays, task, FEATURES, VARIABLES, DRUGS, VOCABULARY)
        (folder / name).mkdir()
        save_shard(folder / name, iter_sequences(*arguments, chunk_rows=chunk_rows))
        in_shard = pl.read_parquet(folder / name / "stays.parquet")
        located.append(in_shard.with_columns(shard=shard, frame=pl.int_range(pl.len())))
    whole = build(tables, task)
    save_index(folder, pl.concat(located).sort("stay_id"), whole.features, SHARDS)
    assert_same(whole, Sequences.load(folder).in_memory())
