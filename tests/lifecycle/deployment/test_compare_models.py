"""Registered versions compared on their common held-out rows."""

from __future__ import annotations

import pytest

from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.compare_models import compare_runs
from flowsheet.tracking.store import connect


def test_models_of_the_same_name_are_compared_under_their_labels(registrar):
    references = [f"{registrar.name}/{registrar.register(quality)}" for quality in ("weak", "good")]
    comparison = compare_runs(references, metric="brier")
    assert set(comparison.evidence.models) == {f"logistic ({label})" for label in references}
    assert comparison.evidence.models[0] == f"logistic ({references[1]})"
    assert comparison.report.is_file()
    run = connect().get_run(comparison.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["flowsheet.best"] == comparison.evidence.models[0]
    assert compare_runs(references, metric="brier").run_id == comparison.run_id


def test_other_held_out_rows_are_refused(registrar):
    references = [f"{registrar.name}/{registrar.register('good', rows=rows)}" for rows in (0, 1)]
    with pytest.raises(CheckFailed, match="the held-out rows differ: y differs in"):
        compare_runs(references)


def test_models_of_other_tasks_are_refused(registrar):
    other = registrar.register("good", task={"horizon": 2})
    references = [f"{registrar.name}/{version}" for version in (registrar.register("good"), other)]
    with pytest.raises(CheckFailed, match=r"the tasks differ: task\.horizon is 1 and 2"):
        compare_runs(references)


def test_a_single_model_and_a_repeated_one_are_usage_errors(registrar):
    reference = f"{registrar.name}/{registrar.register('good')}"
    with pytest.raises(UsageError, match="there is only one model"):
        compare_runs([reference])
    with pytest.raises(UsageError, match="is given twice"):
        compare_runs([reference, reference])
