"""``flowsheet simulate --as mimic3``: from the command line to a folder of raw tables."""

from pathlib import Path

import pytest

from flowsheet.cli import main


def test_raw_tables_are_written_and_replaced_and_their_rows_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "raw"
    options = ["raw.unmapped_items=0", "raw.compress=false"]
    main(["simulate", str(out), "--as", "mimic3", "--stays", "3", *options])
    main(["simulate", str(out), "--as", "mimic3", "--stays", "2", "--force", *options])
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
        (["--stays", "5", "cohort.options.stays=7"], "set the same value"),
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


@pytest.mark.parametrize("options", [[], ["--as", "mimic3"]])
def test_what_an_earlier_call_wrote_is_replaced_by_force_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    out = tmp_path / "ward"
    main(["simulate", str(out), "--stays", "3", *options])
    before = sorted((file, file.stat().st_mtime_ns) for file in out.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(out), "--stays", "2", *options])
    assert stopped.value.code == 1
    assert "--force" in capsys.readouterr().err
    assert sorted((file, file.stat().st_mtime_ns) for file in out.rglob("*")) == before


def test_ingest_replaces_an_extract_by_force_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ingest", "simulated_small", "cohort.options.stays=3", "--out", str(tmp_path)]
    main(arguments)
    with pytest.raises(SystemExit):
        main(arguments)
    assert "there is already an extract" in capsys.readouterr().err
    main([*arguments, "--force"])


def test_raw_tables_that_do_not_fit_on_the_disk_are_not_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(tmp_path / "raw"), "--as", "mimic3", "--stays", "1000000000000"])
    assert stopped.value.code == 1
    assert "raw tables of 1,000,000,000,000 stays: about 102.0 PB" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()
