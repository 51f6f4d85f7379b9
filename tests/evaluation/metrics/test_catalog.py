"""Metrics by name, and the metrics that an evaluation selects."""

import pytest

from flowsheet.config import EvaluationConfig
from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics import get_metric, select_metrics
from tests.evaluation.metrics.helpers import default_metrics


def test_the_default_evaluation_has_these_operating_points():
    names = {metric.name for metric in default_metrics() if "_at_" in metric.name}
    assert names == {
        "ppv_at_alert_rate_5",
        "ppv_at_alert_rate_10",
        "ppv_at_daily_alerts_5",
        "ppv_at_daily_alerts_20",
        "sensitivity_at_alert_rate_5",
        "sensitivity_at_alert_rate_10",
        "alert_rate_at_sensitivity_50",
        "alert_rate_at_sensitivity_80",
        "ppv_at_sensitivity_50",
        "ppv_at_sensitivity_80",
        "net_benefit_at_5",
        "net_benefit_at_20",
    }


def test_metrics_without_a_parameter_are_always_selected():
    names = [metric.name for metric in select_metrics({}, "auroc")]
    assert {"auroc", "auprc", "brier", "ece", "lead_time"} <= set(names)
    assert not any("_at_" in name for name in names)


def test_operating_points_are_sorted_by_their_value():
    metrics = select_metrics({"ppv_at_alert_rate": (0.1, 0.02, 0.05, 0.1)}, "auroc")
    names = [metric.name for metric in metrics if metric.name.startswith("ppv")]
    assert names == ["ppv_at_alert_rate_2", "ppv_at_alert_rate_5", "ppv_at_alert_rate_10"]


def test_the_ranking_metric_is_selected_even_if_not_declared():
    metrics = select_metrics({}, "ppv_at_alert_rate_2")
    assert "ppv_at_alert_rate_2" in {metric.name for metric in metrics}


def test_an_unknown_family_is_refused_with_its_key():
    with pytest.raises(UsageError, match="has an operating point") as error:
        select_metrics({"ppv_at_alarm_rate": (0.05,)}, "auroc")
    assert error.value.where == "evaluation.operating_points"
    assert 'did you mean "ppv_at_alert_rate"' in str(error.value.todo)


def test_a_metric_without_a_parameter_has_no_operating_point():
    with pytest.raises(UsageError, match="no metric 'auroc' has an operating point"):
        select_metrics({"auroc": (0.05,)}, "auroc")


def test_a_value_out_of_range_is_refused_with_its_key():
    with pytest.raises(UsageError, match="an alert rate is above 0 and at most 1") as error:
        select_metrics({"ppv_at_alert_rate": (0.05, 5)}, "auroc")
    assert error.value.where == "evaluation.operating_points.ppv_at_alert_rate"
    assert "[0.05, 0.1]" in str(error.value.todo)


def test_a_family_without_its_operating_point_is_refused():
    with pytest.raises(UsageError, match="takes an alert rate, which is not specified") as error:
        get_metric("ppv_at_alert_rate")
    assert "ppv_at_alert_rate_5" in str(error.value.todo)


@pytest.mark.parametrize("name", ["ppv_at_alert_rate_x", "ppv_at_alert_rate_", "ppv_at_5", "AUROC"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(UsageError, match="there is no metric called"):
        get_metric(name)


def test_a_percentage_has_one_spelling():
    with pytest.raises(UsageError, match="ppv_at_alert_rate_5"):
        get_metric("ppv_at_alert_rate_05")


@pytest.mark.parametrize("values", [[0.02], 0.02])
def test_the_configuration_takes_a_list_or_a_single_value(values):
    config = EvaluationConfig(name="e", operating_points={"net_benefit_at": values})
    names = {metric.name for metric in select_metrics(config.operating_points, config.metric)}
    assert "net_benefit_at_2" in names
    assert "net_benefit_at_5" not in names
