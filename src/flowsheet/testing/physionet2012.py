"""Small files of the PhysioNet/CinC Challenge 2012, for tests of its source."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

HEADER = "Time,Parameter,Value"


def record_text(record: int, rows: Iterable[str] = (), height: float = 170) -> str:
    """The text of one stay's file: descriptors, a few hours of vital signs, further rows.

    Args:
        record: the RecordID.
        rows: further lines, such as ``"05:10,pH,7.31"``.
        height: in cm.
    """
    descriptors = {"RecordID": record, "Age": 60, "Gender": record % 2, "Height": height}
    lines = [f"00:00,{name},{value}" for name, value in descriptors.items()]
    lines += ["00:00,ICUType,3", "00:00,Weight,80"]
    for hour in range(0, 48, 6):
        lines += [f"{hour:02d}:07,HR,{80 + hour % 9}", f"{hour:02d}:07,MAP,70"]
    return "\n".join([HEADER, *lines, *rows]) + "\n"


def write_challenge(folder: Path, texts: dict[int, str], deaths: dict[int, int]) -> Path:
    """A folder with the set ``a``.

    Args:
        folder: made if it is not there.
        texts: {RecordID: text of the file}.
        deaths: {RecordID: day of death in hospital}.
    """
    records = folder / "set-a"
    records.mkdir(parents=True, exist_ok=True)
    outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for record, text in texts.items():
        (records / f"{record}.txt").write_text(text, encoding="utf-8")
        day = deaths.get(record)
        outcomes.append(f"{record},10,5,9,{-1 if day is None else day},{int(day is not None)}")
    (folder / "Outcomes-a.txt").write_text("\n".join(outcomes) + "\n", encoding="utf-8")
    return folder
