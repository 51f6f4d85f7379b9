"""Training set A of the PhysioNet 2019 challenge: one row an hour, with the challenge's label."""

import zipfile

import numpy as np
import pytest

from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.config import CohortConfig, FeaturesConfig, TaskConfig
from flowsheet.windows.build import build_sequences, collect_vocabulary

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def read_labels(archive):
    """The last field of every line, patient by patient in order of their numbers."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(name for name in files.namelist() if name.endswith(".psv")):
            lines = files.read(name).split()[1:]
            yield int(name[-10:-4]), [int(line.rsplit(b"|", 1)[1]) for line in lines]


@pytest.fixture(scope="module")
def archive(data_dir):
    return data_dir / "physionet2019" / "training_setA.zip"


@pytest.fixture(scope="module")
def sequences(archive, tmp_path_factory):
    config = CohortConfig(name="a", source="physionet2019", path=str(archive))
    folder = tmp_path_factory.mktemp("a") / "extract"
    extract = ingest(make_source(config), config, folder, lambda *_: None)
    tables = extract.tables()
    task = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")
    variables, drugs = extract.manifest.variables, extract.manifest.drugs
    return build_sequences(
        tables, task, FeaturesConfig(name="f"), variables, drugs, collect_vocabulary(tables)
    )


def test_every_hour_of_every_patient_has_the_challenges_label(archive, sequences):
    patients = list(read_labels(archive))
    assert sequences.rows == 790_215
    assert sequences.stay_id.tolist() == [number for number, _ in patients]
    assert sequences.lengths.tolist() == [len(labels) for _, labels in patients]
    np.testing.assert_array_equal(sequences.y, np.concatenate([labels for _, labels in patients]))
    assert sequences.scored.all()


def test_the_label_is_hardly_ever_in_the_response_history(sequences):
    """The definition is certainly fulfilled only days after onset."""
    history = np.nan_to_num(sequences.history[sequences.y == 1]).sum(axis=1)
    assert (history == 0).mean() > 0.9
