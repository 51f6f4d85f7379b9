from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flowsheet.cohort import catalogue
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.windows.build import list_features

STATICS = {"age", "sex", "hours"}
CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize(("group", "model"), [("task", TaskConfig), ("features", FeaturesConfig)])
def test_every_choice_is_valid_and_named_like_its_file(group, model):
    files = sorted((CONF / group).glob("*.yaml"))
    assert files
    for file in files:
        assert model(**OmegaConf.to_container(OmegaConf.load(file))).name == file.stem


def inputs_of(preset):
    """The catalogue's concepts that a preset of features uses as inputs."""
    features = FeaturesConfig(
        **OmegaConf.to_container(OmegaConf.load(CONF / f"features/{preset}.yaml"))
    )
    vocabulary = {"sex": ["F", "M"], "unit": ["MICU"]}
    columns = list_features(
        features, tuple(catalogue.variables()), tuple(catalogue.drugs()), vocabulary
    )
    return {column.source for column in columns}


def test_vitals_only_has_no_laboratory_and_no_drugs():
    kinds = {catalogue.variables()[name].kind for name in inputs_of("vitals_only") - STATICS}
    assert kinds == {"vital"}


def test_without_anti_infectives_lacks_only_these():
    lacking = inputs_of("standard") - inputs_of("without_anti_infectives")
    groups = {catalogue.drugs()[name].group for name in lacking}
    assert groups == set(catalogue.ANTI_INFECTIVE_GROUPS)
