"""How missing values are handled, and which models are scores of everyday care, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flowsheet.config import FeaturesConfig, ModelConfig

BEDSIDE_SCORES = {
    "sofa": "SOFA",
    "qsofa": "qSOFA",
    "news": "NEWS",
    "news2": "NEWS2",
    "mews": "MEWS",
    "sirs": "SIRS",
    "shock_index": "shock index",
}
"""Kinds of models, or values of their parameter ``score``, that are published scores."""

_NAMED_COLUMNS = 10
"""Empty columns that the report names."""


def describe_missing_data(
    features: FeaturesConfig,
    shares: Mapping[str, float],
    *,
    scaled: bool,
    raw: bool,
    empty: Sequence[str] = (),
) -> Iterator[str]:
    """How values that are not known become inputs, in sentences.

    Args:
        features: how events become inputs.
        shares: by variable, the share of rows without a known value.
        scaled: whether a model takes scaled inputs, in which nothing is missing.
        raw: whether a model takes raw inputs, and handles missing values itself.
        empty: the columns in which no stay that models learn from has a value other than 0.
    """
    hours = features.carry_forward_hours
    carried = f"for {hours:g} h" if hours else "within its own time step only"
    exceptions = [
        f"{name} for {own:g} h" for name, own in sorted(features.carry_forward_by_variable.items())
    ]
    also = f" ({', '.join(exceptions)})" if exceptions else ""
    yield f"The last known value is carried forward {carried}{also}; then it is missing."
    yield "No stay and no prediction is left out because a value is missing."
    if scaled:
        yield (
            "For models with scaled inputs a missing value becomes the centre of its column in the "
            "training rows, and a time since a measurement that was never made the longest one."
        )
    if raw:
        yield "Tree models get missing values as such, and learn where to send them."
    extra = [
        text
        for text, is_on in (
            ("whether the value is missing", features.missing_indicators),
            ("the time since it was measured", features.hours_since_measured),
        )
        if is_on
    ]
    if extra:
        yield f"Further columns of each variable are {' and '.join(extra)}."
    past = features.past
    if past.windows or past.averages or past.changes or past.bounds:
        yield "Columns about the past of the stay are computed from the values known by then."
    if shares:
        often = sum(share > 0.5 for share in shares.values())
        yield (
            f"Of {len(shares):,} variables, {often:,} have no known value in more than half of the "
            "rows."
        )
    if empty:
        names = ", ".join(empty[:_NAMED_COLUMNS])
        more = f" and {len(empty) - _NAMED_COLUMNS:,} more" if len(empty) > _NAMED_COLUMNS else ""
        columns = "column is" if len(empty) == 1 else "columns are"
        yield f"{len(empty):,} {columns} unknown or 0 in every row to learn from: {names}{more}."


def find_bedside_scores(models: Mapping[str, ModelConfig]) -> Iterator[str]:
    """The models that are scores of everyday care, by name."""
    for name, config in models.items():
        score = str(config.params.get("score", config.kind)).lower()
        if score in BEDSIDE_SCORES or config.kind in BEDSIDE_SCORES:
            label = BEDSIDE_SCORES.get(score, score)
            yield label if name == score else f"{label} ({name})"
