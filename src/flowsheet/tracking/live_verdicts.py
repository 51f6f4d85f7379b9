"""Challenger against champion on live requests: the verdict, as a tag of the challenger."""

from __future__ import annotations

from datetime import datetime

from flowsheet.config import FrozenModel
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.store import connect

LIVE_VERDICT = "flowsheet.live_verdict"


class LiveVerdict(FrozenModel):
    """A challenger that scored a champion's requests in the shadow, judged by the outcomes."""

    champion: int
    """Version."""
    challenger: int
    """Version."""
    subset: str
    """The rows that models are ranked by."""
    differences: dict[str, tuple[float, float, float]]
    """{metric: difference, low, high}, where it is estimable; positive values favour the
    challenger."""
    metric: str
    """That decides."""
    verdict: str
    """Of the challenger: better, worse, not distinguishable, or not estimable."""
    summary: str
    rows: int
    subjects: int
    first: datetime
    last: datetime
    """When the judged answers were given."""
    extract: str
    """Fingerprint of the extract with the outcomes."""
    run_id: str = ""
    """MLflow run of the comparison."""


def record_verdict(challenger: ModelVersion, verdict: LiveVerdict) -> None:
    """Tag the challenger; a former verdict is replaced."""
    client = connect()
    content = verdict.model_dump_json()
    client.set_model_version_tag(challenger.name, str(challenger.version), LIVE_VERDICT, content)


def find_verdict(version: ModelVersion) -> LiveVerdict | None:
    """The last verdict on a version, or None."""
    tags = connect().get_model_version(version.name, str(version.version)).tags
    return LiveVerdict.model_validate_json(tags[LIVE_VERDICT]) if LIVE_VERDICT in tags else None
