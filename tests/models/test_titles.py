"""What people call models, and what they are called where nobody has given them a title."""

import pytest

from flowsheet.config import ModelConfig
from flowsheet.models.base import MODELS, list_titles


def find_title(name, kind=None, **params):
    return list_titles({name: ModelConfig(kind=kind or name, params=params)})[name]


def test_every_model_of_ours_has_a_title_of_its_own():
    titles = [find_title(name) for name in MODELS.names()]
    assert len(set(titles)) == len(titles)
    assert not any("_" in title for title in titles)


@pytest.mark.parametrize(
    ("name", "params", "title"),
    [
        ("lstm", {}, "LSTM"),
        ("gradient_boosting", {}, "Gradient-boosted trees"),
        ("arx", {}, "ARX(p)"),
        ("arx", {"lags": 1}, "ARX(1)"),
        ("ar", {"lags": 4}, "AR(4)"),
        ("sofa", {}, "SOFA, recalibrated"),
        ("sofa", {"recalibrated": False}, "SOFA"),
    ],
)
def test_a_title_tells_what_the_parameters_make_of_a_model(name, params, title):
    assert find_title(name, **params) == title


def test_a_name_of_the_experiment_s_own_is_kept():
    assert find_title("small_lstm", "lstm") == "small_lstm"


def test_a_model_that_is_not_installed_here_keeps_its_name():
    assert find_title("no_such_model") == "no_such_model"
