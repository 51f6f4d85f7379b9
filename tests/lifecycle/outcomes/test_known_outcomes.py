"""What is known when the record of an extract ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from flowsheet.cohort.schema import EPOCH
from flowsheet.lifecycle.deployment.record_end import find_record_end
from flowsheet.lifecycle.outcomes.judged_rows import _Sorter

START, END = datetime(2030, 1, 1), datetime(2040, 1, 1)


@pytest.mark.parametrize(("is_endless", "left"), [(False, [1, 2]), (True, [1, 1, 1])])
def test_a_horizon_that_is_not_over_is_not_judged(is_endless, left):
    """Stay 1 has left alive, and the hospital of stay 2 has not said what became of the patient."""
    hours = [START + timedelta(hours=h) for h in range(6)]
    stays = pl.DataFrame({"stay_id": [1, 2], "hospital_death": [False, None], "died_at": None})
    steps = pl.DataFrame(
        {
            "stay_id": [1, 1, 1, 2],
            "time": hours[:3] + hours[:1],
            "window_end": hours[3:] + hours[3:4],
            "is_asked": True,
        }
    )
    answered = steps.select("stay_id", "time")
    sorter = _Sorter(SimpleNamespace(scan=lambda _: stays.lazy()), answered, hours[3])
    sorter.leave_out_steps(steps, is_endless=is_endless)
    assert sorter.rows["stay_id"].to_list() == left
    (unjudged,) = sorter.unjudged
    assert unjudged.reason.startswith("the outcome is not known yet")


def test_records_without_calendar_times_have_no_known_end():
    def find(admitted: datetime) -> datetime | None:
        stays = pl.DataFrame({"admitted_at": [admitted] * 2, "discharged_at": [START, END]})
        return find_record_end(SimpleNamespace(scan=lambda _: stays.lazy()), None)

    assert find(EPOCH) is None
    assert find(START) == END
