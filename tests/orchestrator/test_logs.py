"""The end of a log, found without reading all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import commands


@given(
    data=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"line\n"]), max_size=40).map(b"".join),
    lines=st.integers(0, 12),
    block=st.integers(1, 9),
)
def test_the_last_lines_are_what_splitting_the_whole_gives(tmp_path_factory, data, lines, block):
    """For any content, with or without a last newline, and for blocks of any size."""
    path = tmp_path_factory.getbasetemp() / "log.txt"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "BLOCK", block)
        start = commands.start_of_last(path, lines)
    assert data[start:] == b"".join(data.splitlines(keepends=True)[-lines:] if lines else [])


def test_a_log_that_is_not_there_is_empty(tmp_path):
    """An attempt that has not begun has none."""
    assert commands.start_of_last(tmp_path / "log.txt", 5) == 0
