"""``flowsheet simulate --as mimic3``: from the command line to a folder of raw tables."""

from pathlib import Path

import pytest

from flowsheet.cli import main


def test_raw_tables_are_written_and_replaced_and_their_rows_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "raw"
    options = ["raw.unmapped_items=0", "raw.compress=false"]
    for stays in ("3", "2"):
        main(["simulate", str(out), "--as", "mimic3", "--stays", stays, *options])
    printed = capsys.readouterr()
    assert "2 of 2 stays" in printed.err
    assert "CHARTEVENTS" in printed.out
    assert len((out / "ICUSTAYS.csv").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--as", "mimic3", "raw.duplicate=0.1"], 'did you mean "duplicates"'),
        (["--as", "mimic3", "raw.duplicates=2"], "less than or equal to 0.2"),
        (
            ["--as", "mimic3", "--cohort", "physionet2019", "cohort.path=."],
            "not a simulated ward",
        ),
        (["raw.duplicates=0.1"], "is for raw tables"),
    ],
)
def test_a_wrong_argument_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(tmp_path / "raw"), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_a_folder_with_other_files_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(tmp_path), "--as", "mimic3", "--stays", "2"])
    assert stopped.value.code == 1
    assert "already files other than raw tables" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "keep"
