from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flowsheet.prediction.limits import Limits
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import Scorer
from flowsheet.serving.service import Service
from flowsheet.serving.settings import ServeConfig
from tests.model_packages import fit_model_package, ward_tables
from tests.request_bodies import valid_ward


@pytest.fixture(scope="session")
def ward():
    """Forty stays that keep the contract."""
    return valid_ward(ward_tables())


@pytest.fixture(scope="session")
def model_package(ward, tmp_path_factory):
    return fit_model_package(
        tmp_path_factory.mktemp("champion"), "lstm", ward, epochs=1, hidden=8, embedding=4
    )


@pytest.fixture(scope="session")
def challenger_package(ward, tmp_path_factory):
    folder = tmp_path_factory.mktemp("challenger")
    return fit_model_package(folder, "logistic_regression", ward, training_key="r" * 64)


@pytest.fixture
def champion(model_package):
    return LoadedModel("ward-lstm", 3, "champion", model_package, datetime(2000, 1, 1, tzinfo=UTC))


@pytest.fixture
def scorer(champion):
    return Scorer(lambda: champion, Limits())


@pytest.fixture
def service(champion):
    """A service whose champion did not come from a registry."""
    limits = Limits(body_bytes=200_000)
    service = Service(ServeConfig(name="ward-lstm", poll_seconds=3600, limits=limits))
    service.champion.current = champion
    return service
