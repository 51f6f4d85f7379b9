"""Why a registered model gives a stay its risk, and why the risk rose since an earlier step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment.extract_batches import check_variables
from flowsheet.prediction.explanations import explain_rise
from flowsheet.state.locations import Location
from flowsheet.tracking import model_registry, registered_packages

_PREDICTION = ("stay_id", "time", "step", "risk", "log_odds", "baseline")


@dataclass(frozen=True)
class StayExplanation:
    """The explanation of one prediction."""

    model: str
    version: int
    contributions: pl.DataFrame
    """Columns ``EXPLANATIONS``, the largest contribution first."""
    rise: pl.DataFrame | None
    """Columns ``RISE``, what raised the risk the most first; None: no earlier step was named."""
    since: int | None
    """The earlier step."""

    @property
    def prediction(self) -> dict[str, Any]:
        """Stay, time, step, risk, log odds and baseline."""
        return self.contributions.select(_PREDICTION).row(0, named=True)

    def as_json(self, top: int) -> dict[str, Any]:
        """All of it as JSON, with the ``top`` largest contributions and changes."""
        own = self.contributions.drop(_PREDICTION).head(top).to_dicts()
        prediction = {**self.prediction, "time": self.prediction["time"].isoformat()}
        rise = None
        if self.rise is not None:
            rise = {"since_step": self.since, "changes": self.rise.head(top).to_dicts()}
        model = {"name": self.model, "version": self.version}
        return {"model": model, **prediction, "contributions": own, "rise": rise}


def explain_stay(
    model: str, extract: Location, stay_id: int, step: int | None = None, since: int | None = None
) -> StayExplanation:
    """Explain the risk of one step of a stay.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        stay_id: the stay.
        step: the step; None: the last one.
        since: an earlier step, from which on the change of the risk is explained too.

    Raises:
        UsageError: there is no such version, stay or step.
        CheckFailed: the extract lacks most of the model's variables, or the model was saved
            without what explanations need.
    """
    version = model_registry.resolve_reference(model)
    cohort = Extract.open(extract)
    tables = _select_stay(cohort, stay_id)
    package = registered_packages.load_package(version)
    check_variables(cohort, package)
    steps = package.predict(tables)["step"].to_list()
    if not steps:
        raise UsageError(
            f"stay {stay_id} has no step to explain",
            where=str(extract),
            todo="choose a stay that lasted at least one step of the task",
        )
    step = steps[-1] if step is None else step
    asked = [step] if since is None else [since, step]
    _check_steps(asked, steps, stay_id)
    explanations = package.explain(tables, asked)
    rise = None if since is None else explain_rise(explanations, stay_id, since, step)
    of_step = explanations.filter(step=step)
    return StayExplanation(version.name, version.version, of_step, rise, since)


def _select_stay(cohort: Extract, stay_id: int) -> Tables:
    tables = {table: cohort.scan(table).filter(stay_id=stay_id).collect() for table in TABLES}
    if tables["stays"].is_empty():
        raise UsageError(
            f"there is no stay {stay_id} in the extract",
            where=str(cohort.path / "stays.parquet"),
            todo="choose a stay_id of its table of stays",
        )
    return Tables(**tables)


def _check_steps(asked: list[int], steps: list[int], stay_id: int) -> None:
    for step in asked:
        if step not in steps:
            raise UsageError(
                f"stay {stay_id} has no step {step}",
                todo=f"choose a step from {steps[0]} to {steps[-1]}",
            )
    if len(asked) > 1 and asked[0] >= asked[1]:
        raise UsageError(
            f"step {asked[0]} is not before step {asked[1]}",
            todo="name an earlier step with --since",
        )
