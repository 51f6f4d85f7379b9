"""Records to a validated extract, on a schedule."""

from __future__ import annotations

from prefect import flow

from flows.presence import present
from flows.records import progress
from flows.retries import ON_OUTAGE
from flowsheet.compose import compose_cohort
from flowsheet.lifecycle import prepare
from flowsheet.lifecycle.check import check_cohort
from flowsheet.lifecycle.servers import quiet
