from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flowsheet.config import FeaturesConfig, TaskConfig

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize(("group", "model"), [("task", TaskConfig), ("features", FeaturesConfig)])
def test_every_choice_is_valid_and_named_like_its_file(group, model):
    files = sorted((CONF / group).glob("*.yaml"))
    assert files
    for file in files:
        assert model(**OmegaConf.to_container(OmegaConf.load(file))).name == file.stem
