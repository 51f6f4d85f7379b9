"""The same stays through several sources: how many stay-hours agree.

    python benchmarks/routes.py mimic4=FOLDER clif=FOLDER meds=FOLDER [--detail]
        [--option clif:time_zone=Etc/GMT+5] [--without urine,vent]

The first route is compared with each of the others, on the stays that begin and end at the same
times in both. A stay-hour has the last vital sign or result of each variable, and the scores of
SOFA by the defaults. Suspicion of infection and Sepsis-3 are compared where the other route has
cultures. ``--detail`` lists the variables; ``--option`` is one of a route's source; the variables
of ``--without`` are left out of both. The results for the demo of MIMIC-IV are in docs/clif.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sepsis3 import (
    COMPONENTS,
    LabelInputs,
    Sepsis3Options,
    label,
    suspicion,
)
from flowsheet.cohort.sources.base import Source, StayBatch
from flowsheet.compose import compose_cohort

STAY = ["subject_id", "admitted_at", "discharged_at"]
TOLERANCE = 0.005
"""Share of its value by which a value may differ: CLIF stores some to fewer digits, and multiplied
calcium in mmol/L by 4 instead of 4.0078."""


@dataclass(frozen=True)
class Route:
    """The records of one source."""

    name: str
    path: str
    options: tuple[str, ...]

    def make_source(self, *more: str) -> Source:
        """The source, with further options."""
        overrides = [f"cohort.path={self.path}", *self.options, *more]
        return make_source(compose_cohort(self.name, overrides))

    def read(self) -> list[StayBatch]:
        """All batches."""
        return list(self.make_source().batches())


@dataclass(frozen=True)
class Records:
    """The tables of a route, with the times of the stays instead of their ids."""

    stays: pl.DataFrame
    values: pl.DataFrame
    """The last value of each stay, hour and variable."""
    scores: pl.DataFrame
    """SOFA of each stay and hour."""


def concat(batches: list[StayBatch], table: str) -> pl.DataFrame:
    return pl.concat(getattr(batch, table) for batch in batches)


def collect_records(batches: list[StayBatch], without: list[str]) -> Records:
    """The hourly values and scores of a route, without some variables."""
    stays, events = concat(batches, "stays"), concat(batches, "events")
    events = events.filter(~pl.col("variable").is_in(without))
    treatments = concat(batches, "treatments")
    times = stays.select("stay_id", *STAY)
    labels = label(LabelInputs(stays, events, treatments), Sepsis3Options())
    scores = labels.sofa.join(times, on="stay_id").drop("stay_id")
    kinds = {name: variable.kind for name, variable in catalogue.variables().items()}
    measured = [name for name, kind in kinds.items() if kind in ("vital", "lab")]
    inside = events.filter(pl.col("variable").is_in(measured)).join(times, on="stay_id")
    inside = inside.filter(pl.col("time").is_between("admitted_at", "discharged_at"))
    hour = (pl.col("time") - pl.col("admitted_at")).dt.total_hours().alias("hour")
    last = inside.sort("time").group_by(*STAY, "variable", hour).agg(pl.col("value").last())
    return Records(stays, last, scores)


def compare_values(one: Records, other: Records) -> pl.DataFrame:
    """(variable, hours, equal, different, only_one, only_other) of the stays of both."""
    both = one.stays.select(STAY).join(other.stays, on=STAY, how="semi")
    keys = [*STAY, "variable", "hour"]
    left, right = (records.values.join(both, on=STAY, how="semi") for records in (one, other))
    pairs = left.join(right, on=keys, how="full", coalesce=True)
    difference = (pl.col("value") - pl.col("value_right")).abs()
    is_equal = (difference <= TOLERANCE * pl.col("value").abs() + 1e-6).fill_null(value=False)
    without_one, without_other = pl.col("value").is_null(), pl.col("value_right").is_null()
    counts = pairs.group_by("variable").agg(
        hours=pl.len(),
        equal=is_equal.sum(),
        only_one=without_other.sum(),
        only_other=without_one.sum(),
    )
    different = pl.col("hours") - pl.sum_horizontal("equal", "only_one", "only_other")
    return counts.with_columns(different=different).sort("variable")


def summarise_values(values: pl.DataFrame) -> str:
    """How many stay-hours are equal where both routes have a value."""
    total = values.select(pl.exclude("variable").sum()).row(0, named=True)
    paired = total["equal"] + total["different"]
    absent = values.filter(pl.col("hours") == pl.col("only_one"))["variable"].to_list()
    return (
        f"values: {total['equal'] / paired:.2%} of {paired:,} stay-hours equal; in one route alone "
        f"{total['only_one']:,}, in the other alone {total['only_other']:,}; without a value in "
        f"the other: {', '.join(absent)}"
    )


def compare_scores(one: Records, other: Records) -> pl.DataFrame:
    """The share of stay-hours with the same score, for each component and the total."""
    pairs = one.scores.join(other.scores, on=[*STAY, "hour"])
    names = (*COMPONENTS, "total")
    equal = pairs.select(
        pl.col(name).fill_null(0).eq(pl.col(f"{name}_right").fill_null(0)).mean() for name in names
    )
    return equal.with_columns(hours=pl.lit(pairs.height))


def find_labels(route: Route) -> pl.DataFrame | None:
    """(STAY, suspected, septic) of each stay; None where the route has no cultures.

    A source hands on no suspicions: they are recorded where the label finds them.
    """
    has_options = any("sepsis3" in option for option in route.options)
    source = route.make_source(*([] if has_options else ["cohort.options.sepsis3={}"]))
    suspected: list[pl.DataFrame] = []

    def record(*arguments: Any) -> pl.DataFrame:
        found = find_suspicions(*arguments)
        if arguments[-1] == source.options.sepsis3:  # others compare definitions
            suspected.append(found.select("stay_id"))
        return found

    find_suspicions = suspicion.find_suspicions
    suspicion.find_suspicions = record
    try:
        batches = list(source.batches())
    finally:
        suspicion.find_suspicions = find_suspicions
    if not sum(batch.source_counts.get("cultures", 0) for batch in batches):
        return None
    septic = concat(batches, "episodes").select("stay_id").unique().with_columns(septic=True)
    suspicious = pl.concat(suspected).unique().with_columns(suspected=True)
    stays = concat(batches, "stays").select("stay_id", *STAY)
    stays = stays.join(septic, on="stay_id", how="left").join(suspicious, on="stay_id", how="left")
    return stays.with_columns(pl.col("septic", "suspected").fill_null(value=False))


def compare_labels(first: Route, route: Route) -> None:
    """Print the agreement on suspected infection and on Sepsis-3, or why there is none."""
    one, other = find_labels(first), find_labels(route)
    if one is None or other is None:
        print(f"sepsis: {route.name if other is None else first.name} has no cultures")
        return
    pairs = one.join(other, on=STAY)
    for name in ("suspected", "septic"):
        a, b = pairs[name], pairs[f"{name}_right"]
        kappa = compute_kappa(a, b)
        print(f"{name}: {a.sum()} and {b.sum()} of {len(a)} stays, kappa {kappa:.2f}")


def compute_kappa(one: pl.Series, other: pl.Series) -> float:
    """Cohen's kappa of two flags."""
    flags = pl.DataFrame({"one": one, "other": other}).cast(pl.Float64)
    observed = flags.select((pl.col("one") == pl.col("other")).mean()).item()
    p, q = flags.mean().row(0)
    expected = p * q + (1 - p) * (1 - q)
    return float((observed - expected) / (1 - expected)) if expected < 1 else 1.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("routes", nargs="+", metavar="SOURCE=FOLDER")
    parser.add_argument("--option", action="append", default=[], metavar="SOURCE:KEY=VALUE")
    parser.add_argument("--without", default="", metavar="VARIABLE,VARIABLE")
    parser.add_argument("--detail", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    routes = []
    for text in arguments.routes:
        name, path = text.split("=", 1)
        prefix = f"{name}:"
        own = [option for option in arguments.option if option.startswith(prefix)]
        options = tuple(f"cohort.options.{option.removeprefix(prefix)}" for option in own)
        routes.append(Route(name, path, options))
    first = routes[0]
    without = arguments.without.split(",")
    records = collect_records(first.read(), without)
    pl.Config.set_tbl_rows(-1)
    for route in routes[1:]:
        other = collect_records(route.read(), without)
        n_both = records.stays.join(other.stays, on=STAY, how="semi").height
        n_stays = f"{first.name} {records.stays.height}, {route.name} {other.stays.height}"
        print(f"stays: {n_stays}, of the same times {n_both}")
        values = compare_values(records, other)
        if arguments.detail:
            print(values)
        print(summarise_values(values))
        print(compare_scores(records, other))
        compare_labels(first, route)


if __name__ == "__main__":
    main()
