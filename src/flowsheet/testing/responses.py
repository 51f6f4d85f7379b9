"""Conformance tests for responses: subclass :class:`ResponseConformance` in a test.

>>> class TestMyResponse(ResponseConformance):
...     def make_response(self):
...         raise NotImplementedError("return the response with its default options")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import ClassVar

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue, checks
from flowsheet.cohort.responses.base import Records, Response, find_episodes
from flowsheet.cohort.schema import EPOCH, EVENTS, STAYS, TREATMENTS, to_contract

_NAME = "tested"
_HOUR = timedelta(hours=1)


class ResponseConformance:
    """The contract of :class:`flowsheet.cohort.responses.base.Response` as tests.

    They run on the records of :meth:`make_records`, by default a few random stays of the declared
    variables and drugs.
    """

    variables: ClassVar[Mapping[str, tuple[float, float]]] = {"hr": (50.0, 130.0)}
    """Variables that the response reads, with the lowest and highest value to draw."""
    drugs: ClassVar[tuple[str, ...]] = ()
    """Drugs that the response reads."""

    def make_response(self) -> Response:
        """The response with some options."""
        raise NotImplementedError

    def make_records(self) -> Records:
        """Valid records of at least two stays that show the response; always the same."""
        return random_records(self.variables, self.drugs)

    def test_it_has_words_and_documentation(self) -> None:
        """Reports need its words, ``flowsheet ls responses`` the first line of its docstring."""
        response = self.make_response()
        assert all([response.words.name, response.words.state, response.words.enter])
        assert (type(response).__doc__ or "").strip()

    def test_the_records_have_episodes(self) -> None:
        """Otherwise these tests would say nothing."""
        assert self._find(self.make_records()).height > 0

    def test_every_episode_follows_the_contract(self) -> None:
        """Not ended before its onset, not known before it, inside the stay, without overlap."""
        records = self.make_records()
        episodes = self._find(records)
        failures = checks.find_value_failures("episodes", episodes, records.stays)
        assert failures.is_empty(), str(failures)
        assert (episodes["known_at"] >= episodes["onset"]).all()
        assert (episodes["end"] >= episodes["onset"]).all()

    def test_the_order_of_rows_does_not_matter(self) -> None:
        """Tables may come in any order."""
        records = self.make_records()
        assert self._find(_shuffle(records)).equals(self._find(records))

    def test_batches_do_not_matter(self) -> None:
        """A stay has the same episodes alone as together with others."""
        records = self.make_records()
        together = self._find(records)
        for stay_id in records.stays["stay_id"]:
            alone = self._find(records.of_stays(pl.Series("stay_id", [stay_id])))
            assert alone.equals(together.filter(stay_id=stay_id)), stay_id

    def test_no_look_ahead(self) -> None:
        """Without the facts that become known after a time, what is known by then is the same."""
        records = self.make_records()
        whole = self._find(records)
        for moment in _moments(records, whole):
            then = self._find(_forget(records, moment))
            for part in (_known_by, _ended_by):
                assert part(then, moment).equals(part(whole, moment)), moment

    def _find(self, records: Records) -> pl.DataFrame:
        return find_episodes(_NAME, self.make_response(), records)


def random_records(
    variables: Mapping[str, tuple[float, float]],
    drugs: tuple[str, ...] = (),
    stays: int = 12,
    seed: int = 1,
) -> Records:
    """Random stays of one to five days, of which every third dies.

    Args:
        variables: {variable: lowest and highest value}; values keep low or high for hours.
        drugs: of infusions.
        stays: how many.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    stay_rows: list[dict[str, object]] = []
    events: list[dict[str, object]] = []
    treatments: list[dict[str, object]] = []
    for stay_id in range(1, stays + 1):
        hours = float(rng.integers(24, 120))
        admitted = EPOCH + stay_id * 400 * _HOUR
        died = admitted + hours * _HOUR if stay_id % 3 == 0 else None
        stay_rows.append(
            {
                "stay_id": stay_id,
                "subject_id": stay_id,
                "admitted_at": admitted,
                "discharged_at": admitted + hours * _HOUR,
                "died_at": died,
                "hospital_death": died is not None,
                "age": 60.0,
                "sex": "FM"[stay_id % 2],
            }
        )
        events += _draw_events(rng, stay_id, admitted, hours, variables)
        treatments += _draw_infusions(rng, stay_id, admitted, hours, drugs)
    return Records(
        to_contract("stays", pl.DataFrame(stay_rows, schema_overrides=_only(STAYS, stay_rows))),
        pl.DataFrame(events, schema=EVENTS),
        pl.DataFrame(treatments, schema=TREATMENTS),
    )


def _only(schema: Mapping[str, pl.DataType], rows: list[dict[str, object]]) -> pl.Schema:
    return pl.Schema({name: kind for name, kind in schema.items() if name in rows[0]})


def _draw_events(
    rng: np.random.Generator,
    stay_id: int,
    admitted: datetime,
    hours: float,
    variables: Mapping[str, tuple[float, float]],
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for variable, (low, high) in variables.items():
        hour = float(rng.uniform(0, 3))
        level = rng.random()
        while hour < hours:
            if rng.random() < 0.15:
                level = rng.random()
            share = np.clip(level + rng.normal(0, 0.08), 0, 1)
            value = low if high == low else round(low + float(share) * (high - low), 2)
            time = admitted + hour * _HOUR
            late = float(rng.choice([0.0, 0.5, 2.0, 9.0], p=[0.5, 0.3, 0.15, 0.05]))
            row = {"stay_id": stay_id, "time": time, "known_at": time + late * _HOUR}
            rows.append({**row, "variable": variable, "value": value})
            hour += float(rng.exponential(2.5)) + 0.1
    return rows


def _draw_infusions(
    rng: np.random.Generator, stay_id: int, admitted: datetime, hours: float, drugs: tuple[str, ...]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for drug in drugs:
        start = float(rng.uniform(0, hours))
        end = min(hours, start + float(rng.exponential(12)))
        begin = admitted + start * _HOUR
        known_at = begin + float(rng.choice([0.0, 3.0])) * _HOUR
        row = {"stay_id": stay_id, "drug": drug, "start": begin, "end": admitted + end * _HOUR}
        unit = catalogue.drug(drug).unit
        rows.append({**row, "known_at": known_at, "dose": 5.0, "unit": unit})
    return rows


def _shuffle(records: Records) -> Records:
    shuffled = {
        table.name: getattr(records, table.name).sample(fraction=1, shuffle=True, seed=3)
        for table in fields(records)
    }
    return Records(**shuffled)


def _moments(records: Records, episodes: pl.DataFrame) -> list[datetime]:
    """Moments at which something becomes known, and some in between."""
    known = pl.concat([records.events["known_at"], episodes["known_at"]]).unique().sort()
    return known.gather_every(max(1, len(known) // 25)).to_list()


def _forget(records: Records, moment: datetime) -> Records:
    """The records as they were at a moment: no later facts, and no later death."""
    is_known = pl.col("known_at") <= moment
    tables = {
        table.name: getattr(records, table.name).filter(is_known)
        for table in fields(records)
        if table.name != "stays"
    }
    later = (pl.col("died_at") > moment).fill_null(value=False)
    columns = ("died_at", "hospital_death")
    stays = records.stays.with_columns(pl.when(~later).then(pl.col(columns)))
    return replace(records, stays=stays, **tables)


def _known_by(episodes: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Of the episodes that are known by a moment: all but their end."""
    return episodes.filter(pl.col("known_at") <= moment).drop("end")


def _ended_by(episodes: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """The episodes that have ended by a moment."""
    return episodes.filter(pl.col("end") <= moment)
