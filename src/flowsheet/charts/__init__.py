"""Charts: frames in, a Vega-Altair chart out.

The same functions draw the reports, the files beside a run in MLflow, and notebooks, where a chart
shows itself. Legends are clickable: a name that is clicked is hidden, or shown again.
"""

from flowsheet.charts.curves import calibration, decision_curve, lead_time, precision_recall, roc
from flowsheet.charts.distributions import distribution
from flowsheet.charts.export import to_svg
from flowsheet.charts.intervals import bars, differences, forest, subgroups
from flowsheet.charts.memory import dose_response, dose_response_grid, gate_timeline, gradients
from flowsheet.charts.style import Chart
from flowsheet.charts.timeline import stay_timeline
from flowsheet.charts.tuning import training_curve, tuning_history

__all__ = [
    "Chart",
    "bars",
    "calibration",
    "decision_curve",
    "differences",
    "distribution",
    "dose_response",
    "dose_response_grid",
    "forest",
    "gate_timeline",
    "gradients",
    "lead_time",
    "precision_recall",
    "roc",
    "stay_timeline",
    "subgroups",
    "to_svg",
    "training_curve",
    "tuning_history",
]
