"""The open demo of MIMIC-III."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.sources.base import Source, StayBatch
from flowsheet.cohort.sources.mimic3 import Mimic3
from flowsheet.testing.sources import SourceConformance
from tests.cohort.mimic3_folder import SourceResult, make_source, read_folder

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def demo(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SourceResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return read_folder(data_dir / "mimic3-demo", stays_per_batch=50)


class SharedSource(Mimic3):
    """A source whose batches have been read before."""

    shared_batches: list[StayBatch]

    def batches(self) -> Iterator[StayBatch]:
        yield from self.shared_batches


class TestConformance(SourceConformance):
    """All tests but one look at the same batches; only that one reads the demo again."""

    @pytest.fixture(autouse=True)
    def _use_demo(self, data_dir: Path, demo: SourceResult) -> None:
        self.folder = data_dir / "mimic3-demo"
        self.demo = demo
        self.is_read_again = False

    def make_source(self, folder: Path) -> Source:
        source = make_source(self.folder, stays_per_batch=50)
        if self.is_read_again:
            return source
        shared = SharedSource(source.path, source.options)
        shared.shared_batches = self.demo.batches
        return shared

    def test_the_same_records_give_the_same_batches(self, tmp_path: Path) -> None:
        self.is_read_again = True
        super().test_the_same_records_give_the_same_batches(tmp_path)

    def test_every_row_follows_the_contract(self, tmp_path: Path) -> None:
        """But for four orders, which are dated weeks from their hospital admission."""
        defects = pl.concat([batch.defects for batch in self.demo.batches])
        assert defects["rule"].to_list() == ["outside_admission"] * 4
        batches = [replace(batch, defects=defects.clear()) for batch in self.demo.batches]
        self.demo = replace(self.demo, batches=batches)
        super().test_every_row_follows_the_contract(tmp_path)


def test_the_demo_has_136_stays_of_which_132_are_selected(demo: SourceResult):
    assert demo.attrition["in the raw tables"] == 136
    assert demo.tables.stays.height == list(demo.attrition.values())[-1] == 132
    assert demo.excluded["chartevents: charted in error"] > 100
    assert demo.batches[0].source_counts["stays with suspected infection"] > 0


@pytest.mark.parametrize(
    ("variable", "time", "known_at", "value"),
    [  # read from the raw CSVs by eye
        ("hr", "2164-10-23 22:40", "2164-10-23 22:50", 104.0),
        ("o2sat", "2164-10-24 03:00", "2164-10-24 03:00", 98.0),  # stored at 02:51
        ("temp", "2164-10-23 22:40", "2164-10-23 22:50", 37.5556),  # 99.6 Fahrenheit
        ("gcs", "2164-10-23 23:00", "2164-10-23 23:00", 15.0),
        ("lact", "2164-10-23 17:33", "2164-10-23 17:43:12", 4.4),  # before the stay: no copy
        ("crea", "2164-10-24 03:00", "2164-10-24 03:50", 3.5),  # its copy was stored then
        ("urine", "2164-10-24 00:00", "2164-10-24 04:58", 100.0),
        ("urine", "2164-10-25 03:00", "2164-10-25 03:22", 10.0),
    ],
)
def test_values_of_the_demo_are_those_of_the_raw_tables(
    demo: SourceResult, variable: str, time: str, known_at: str, value: float
):
    events = demo.tables.events.filter(
        stay_id=206504, variable=variable, time=datetime.fromisoformat(time)
    )
    assert events["known_at"].to_list() == [datetime.fromisoformat(known_at)]
    assert events["value"].to_list() == [pytest.approx(value, abs=1e-4)]
