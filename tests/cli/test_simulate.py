"""``flowsheet simulate --as mimic3``: from words on the command line to a folder of raw tables."""

from pathlib import Path

import pytest

from flowsheet.cli import main


def test_raw_tables_are_written_replaced_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "raw"
    for stays in ("3", "2"):
        main(
            [
                "simulate",
                str(out),
                "--as",
                "mimic3",
                "--stays",
                stays,
                "raw.unmapped_items=0",
                "raw.compress=false",
            ]
        )
    said = capsys.readouterr()
    assert "2 of 2 stays" in said.err
    assert "CHARTEVENTS" in said.out
    assert len((out / "ICUSTAYS.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--as", "mimic3", "raw.duplicate=0.1"], 'did you mean "duplicates"'),
        (["--as", "mimic3", "raw.duplicates=2"], "less than or equal to 0.2"),
        (["--as", "mimic3", "--cohort", "physionet2019", "cohort.path=."], "no simulated ward"),
        (["raw.duplicates=0.1"], "is for raw tables"),
    ],
)
def test_mistakes_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(tmp_path / "raw"), *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_what_is_no_folder_of_raw_tables_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(tmp_path), "--as", "mimic3", "--stays", "2"])
    assert stopped.value.code == 1
    assert "something else already" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "keep"
