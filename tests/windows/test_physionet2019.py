"""On the challenge's training set A: every hour has its row, and every row the challenge's own label."""

import zipfile

import numpy as np
import pytest

from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.config import CohortConfig, FeaturesConfig, TaskConfig
from flowsheet.windows.build import build_sequences, collect_vocabulary

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def labels(archive):
    """Last field of every line of every patient, patients in order of their numbers."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(name for name in files.namelist() if name.endswith(".psv")):
            lines = files.read(name).split()[1:]
            yield int(name[-10:-4]), [int(line.rsplit(b"|", 1)[1]) for line in lines]


@pytest.fixture(scope="module")
def archive(data_dir):
    return data_dir / "physionet2019" / "training_setA.zip"


@pytest.fixture(scope="module")
def built(archive, tmp_path_factory):
    config = CohortConfig(name="a", source="physionet2019", path=str(archive))
    folder = tmp_path_factory.mktemp("a") / "extract"
    extract = ingest(make_source(config), config, folder, lambda *_: None)
    tables = extract.tables()
    task = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")
    variables, drugs = extract.manifest.variables, extract.manifest.drugs
    return build_sequences(
        tables, task, FeaturesConfig(name="f"), variables, drugs, collect_vocabulary(tables)
    )


def test_every_hour_of_every_patient_has_the_challenges_label(archive, built):
    patients = list(labels(archive))
    assert built.rows == 790_215
    assert built.stay_id.tolist() == [number for number, _ in patients]
    assert built.lengths.tolist() == [len(own) for _, own in patients]
    np.testing.assert_array_equal(built.y, np.concatenate([own for _, own in patients]))
    assert built.scored.all()


def test_the_label_is_not_among_what_is_known(built):
    known = np.nan_to_num(built.history[built.y == 1]).sum(axis=1)
    assert (known == 0).mean() > 0.9  # the definition is met for certain only days after onset
