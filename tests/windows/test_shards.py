from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.shards import ShardedInputs, decode_stay, encode_stay, write_shard

LENGTHS = np.array([3, 0, 5, 1, 4])


def bits(x):
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def shard(folder, x, lengths, cut):
    """Inputs of the stays in two shards, the later stays in the first."""
    parts = np.split(x, row_offsets(lengths)[1:-1])
    for name, stays in (("b", parts[:cut]), ("a", parts[cut:])):
        (folder / name).mkdir()
        write_shard(folder / name, stays)
    position = np.arange(len(lengths))
    in_first = position >= cut
    return ShardedInputs(
        folders=(folder / "a", folder / "b"),
        shard=np.where(in_first, 0, 1),
        frame=np.where(in_first, position - cut, position),
        offsets=row_offsets(lengths),
        stored_columns=x.shape[1],
    )


@pytest.fixture
def x():
    x = np.random.default_rng(0).normal(size=(LENGTHS.sum(), 6)).astype(np.float32)
    x[x < -0.5] = np.nan
    return x


@pytest.fixture
def inputs(tmp_path, x):
    return shard(tmp_path, x, LENGTHS, 2)


@given(
    arrays.arrays(
        np.uint32,
        st.tuples(st.integers(0, 7), st.integers(0, 5)),
        elements=st.integers(0, 2**32 - 1),
    )
)
def test_every_bit_comes_back(pattern):
    """Also of NaNs with a payload, negative zeros and denormals."""
    x = pattern.view(np.float32)
    np.testing.assert_array_equal(bits(decode_stay(encode_stay(x), *x.shape)), pattern)


def test_it_reads_like_the_array(inputs, x):
    assert (inputs.shape, inputs.ndim, len(inputs), inputs.nbytes) == (x.shape, 2, len(x), x.nbytes)
    keys = [
        slice(2, 9),
        slice(None, None, -3),
        np.array([12, 0, 12, 5]),
        np.array([-1, -13]),
        np.arange(13) % 2 == 0,
        np.array([], np.int64),
        (slice(None), 2),
        (slice(4), [3, 1]),
        (np.array([8, 2]), slice(1, 3)),
        (3, 1),
        -1,
        7,
    ]
    for key in keys:
        np.testing.assert_array_equal(bits(inputs[key]), bits(x[key]), err_msg=str(key))
    np.testing.assert_array_equal(bits(np.asarray(inputs)), bits(x))


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_blocks_are_whole_stays_and_cover_all_rows(inputs, x, rows):
    blocks = list(inputs.blocks(rows))
    ends = [block.stop for block, _ in blocks]
    assert set(ends) <= set(inputs.offsets.tolist())
    np.testing.assert_array_equal(bits(np.concatenate([part for _, part in blocks])), bits(x))


def test_stays_columns_and_scaling_are_selected_without_reading(inputs, x):
    offsets = row_offsets(LENGTHS)
    taken = inputs.take(np.array([4, 2])).select([5, 0])
    expected = np.concatenate([x[offsets[4] :], x[offsets[2] : offsets[3]]])[:, [5, 0]]
    np.testing.assert_array_equal(bits(np.asarray(taken)), bits(expected))


def test_scaled_sequences_are_those_in_memory(tmp_path):
    sequences = toy_sequences(stays=12, seed=3, raw=True)
    x = np.asarray(sequences.x)
    sharded = replace(sequences, x=shard(tmp_path, x, sequences.lengths, 5))
    scaler = Scaler.fit(sharded)
    assert repr(scaler) == repr(Scaler.fit(sequences))
    in_memory, lazy = scaler.transform(sequences), scaler.transform(sharded)
    np.testing.assert_array_equal(bits(np.asarray(lazy.x)), bits(in_memory.x))
    chosen = sequences.columns(sequences.features[0].kind)
    np.testing.assert_array_equal(
        bits(np.asarray(lazy.select_features(chosen).x)), bits(in_memory.select_features(chosen).x)
    )
    stays = np.array([7, 1])
    np.testing.assert_array_equal(
        bits(lazy.take(stays).in_memory().x), bits(in_memory.take(stays).x)
    )


def test_a_damaged_shard_is_named(tmp_path, inputs):
    path = tmp_path / "a" / "x.zst"
    path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(FlowsheetError, match="cannot be decoded") as caught:
        np.asarray(inputs)
    assert not isinstance(caught.value, CheckFailed)  # as which a model would be left out


def test_a_shard_that_is_gone_is_named(tmp_path, inputs):
    """Erased, or deleted, while a training reads its inputs from it."""
    (tmp_path / "a" / "frames.npy").unlink()
    with pytest.raises(FlowsheetError, match="a shard of windows cannot be read") as caught:
        np.asarray(inputs)
    assert caught.value.where == str(tmp_path / "a")
    assert not isinstance(caught.value, CheckFailed)


@pytest.mark.parametrize("rows", [1, 9, 1000])
def test_blocks_of_stays_are_the_stays_in_memory(tmp_path, rows):
    sequences = toy_sequences(stays=12, seed=3, raw=True)
    sharded = replace(sequences, x=shard(tmp_path, sequences.x, sequences.lengths, 5))
    stays = []
    for of_memory, of_shards in zip(sequences.blocks(rows), sharded.blocks(rows), strict=True):
        for chosen, block in (of_memory, of_shards):
            np.testing.assert_array_equal(bits(block.x), bits(sequences.x[chosen]))
            np.testing.assert_array_equal(block.y, sequences.y[chosen])
        stays += of_shards[1].stay_id.tolist()
        assert of_memory[1].offsets.tolist() == of_shards[1].offsets.tolist()
    assert stays == sequences.stay_id.tolist()


def test_the_digest_says_what_is_read(tmp_path):
    sequences = toy_sequences(stays=12, seed=3, raw=True)
    inputs = shard(tmp_path, sequences.x, sequences.lengths, 5)
    scaler = Scaler.fit(sequences)
    others = [
        inputs,
        inputs.take(np.arange(11)),
        inputs.take(np.arange(12)[::-1]),
        inputs.select([1, 0]),
        inputs.scaled(scaler),
        inputs.scaled(replace(scaler, spread=scaler.spread * 2)),
    ]
    assert len({other.digest() for other in others}) == len(others)
    assert inputs.take(np.arange(12)).digest() == inputs.digest()
