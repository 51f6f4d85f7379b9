"""A stream is cut into blocks of whole lines."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.sources.mimic3.csv_reader import BufferPool, split_lines


@settings(deadline=None)
@given(text=st.text(alphabet="ab\n", max_size=60), size=st.integers(1, 20))
def test_blocks_are_the_stream_cut_after_whole_lines(text: str, size: int) -> None:
    buffers = BufferPool(1, size)
    blocks = []
    for buffer, used in split_lines(io.BufferedReader(io.BytesIO(text.encode())), buffers):
        blocks.append(bytes(buffer[:used]).decode())
        buffers.put(buffer)
    assert "".join(blocks).rstrip("\n") == text.rstrip("\n")
    assert all(block.endswith("\n") for block in blocks[:-1])
