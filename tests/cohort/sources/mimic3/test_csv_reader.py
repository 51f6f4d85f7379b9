"""A stream is cut into blocks of whole lines."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.engine.csv_reader import BufferPool, split_lines
from flowsheet.errors import CheckFailed


@settings(deadline=None)
@given(text=st.text(alphabet="ab\n", max_size=60), size=st.integers(1, 20))
def test_blocks_are_the_stream_cut_after_whole_lines(text: str, size: int) -> None:
    buffers = BufferPool(1, size)
    blocks = []
    stream = io.BufferedReader(io.BytesIO(text.encode()))
    for buffer, used in split_lines(stream, buffers, 1_000, Path("table.csv")):
        blocks.append(bytes(buffer[:used]).decode())
        buffers.put(buffer)
    assert "".join(blocks).rstrip("\n") == text.rstrip("\n")
    assert all(block.endswith("\n") for block in blocks[:-1])


def test_a_line_without_an_end_is_refused_before_it_is_in_memory() -> None:
    class Endless(io.RawIOBase):
        n_read = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            buffer[:] = bytes(len(buffer))
            self.n_read += len(buffer)
            return len(buffer)

    endless = Endless()
    with pytest.raises(CheckFailed, match="a line is longer than 5,000 bytes"):
        list(
            split_lines(io.BufferedReader(endless), BufferPool(1, 1_000), 5_000, Path("table.csv"))
        )
    assert endless.n_read < 100_000
