"""Clients are known by tokens from a private file, which is read again when it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowsheet.errors import UsageError
from flowsheet.serving.tokens import TokenFile

WARD, LAB = (
    "ward-token-of-43-characters-0123456789-abcd",
    "lab-token-of-43-characters-0123456789-abcde",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    write(path, f"# clients\n\nward-7:{WARD}\nlab: {LAB}\n")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)


def test_each_token_names_its_client(file):
    tokens = TokenFile(file)
    assert (tokens.client(WARD), tokens.client(LAB)) == ("ward-7", "lab")
    for wrong in ("", WARD[:-1], WARD + "x", "ward-7", f"ward-7:{WARD}", "\udcff", "é"):
        assert tokens.client(wrong) is None


def test_a_changed_file_is_used_without_a_restart(file):
    tokens = TokenFile(file)
    write(file, f"lab:{LAB}\nlab:{WARD}\n")
    assert tokens.client(WARD) == tokens.client(LAB) == "lab"


@pytest.mark.parametrize("spoil", ["malformed", "open", "deleted"])
def test_a_file_that_became_wrong_changes_nothing_and_is_logged(file, capsys, spoil):
    tokens = TokenFile(file)
    if spoil == "malformed":
        write(file, f"ward 7:{LAB}")
    elif spoil == "open":
        file.chmod(0o644)
    else:
        file.unlink()
    assert tokens.client(WARD) == "ward-7"
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "tokens_not_reloaded"
    assert LAB not in line
    assert tokens.client(WARD) == "ward-7"
    assert capsys.readouterr().err == "", "it is logged once"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "tokens"),
        ("# nobody\n", "tokens"),
        (f"ward:{WARD}\nno token", "line 2"),
        (f"ward-7:{WARD}\nlab:short", "line 2"),
        (f"w ard:{WARD}", "line 1"),
        (f":{WARD}", "line 1"),
        (f"ward:{WARD[:20]} {WARD[:20]}", "line 1"),
        (f"ward:{WARD}\nlab:{WARD}", "line 2"),
    ],
)
def test_a_wrong_line_is_named_without_its_token(tmp_path, text, where):
    write(tmp_path / "tokens", text)
    with pytest.raises(UsageError) as caught:
        TokenFile(tmp_path / "tokens")
    assert str(caught.value.where).endswith(where)
    assert WARD not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o660])
def test_a_file_that_others_can_read_is_refused(file, mode):
    file.chmod(mode)
    with pytest.raises(UsageError, match="other users can read"):
        TokenFile(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        TokenFile(tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes(b"ward:\xe9\xe9")
    with pytest.raises(UsageError, match="not UTF-8"):
        TokenFile(tmp_path / "latin")
