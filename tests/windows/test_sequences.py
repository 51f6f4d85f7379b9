import numpy as np
import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.sequences import Sequences


@pytest.fixture(scope="module")
def sequences():
    stays = [
        {"stay_id": 1, "subject_id": 20, "discharged_at": 70},
        {"stay_id": 2, "subject_id": 10, "discharged_at": 20},
        {"stay_id": 3, "subject_id": 20, "discharged_at": 48},
    ]
    tables = make_tables(stays, [{"stay_id": 2, "time": 1, "variable": "hr", "value": 80.0}])
    features = FeaturesConfig(name="f", statics=())
    return build_sequences(
        tables, TaskConfig(name="t"), features, ("hr",), (), collect_vocabulary(tables)
    )


def test_the_rows_of_each_stay(sequences):
    assert (len(sequences), sequences.rows) == (3, 6)
    assert sequences.lengths.tolist() == [3, 1, 2]
    assert sequences.row_stay.tolist() == [0, 0, 0, 1, 2, 2]
    assert sequences.columns("value", "time") == [0, 3]


@pytest.mark.parametrize(
    ("selection", "stays"),
    [(np.array([2, 1]), [3, 2]), (np.array([False, True, True]), [2, 3])],
)
def test_take_selects_whole_stays_by_position_or_mask(sequences, selection, stays):
    taken = sequences.take(selection)
    assert taken.stay_id.tolist() == stays
    for i, stay in enumerate(stays):
        rows = slice(*taken.offsets[i : i + 2])
        original_rows = sequences.row_stay == stay - 1
        np.testing.assert_array_equal(taken.x[rows], sequences.x[original_rows])
        np.testing.assert_array_equal(taken.step[rows], sequences.step[original_rows])


def test_subjects_are_selected_with_all_their_stays(sequences):
    assert sequences.select_subjects(np.array([20])).stay_id.tolist() == [1, 3]
    assert sequences.select_subjects(np.array([99])).rows == 0


def test_loaded_inputs_are_read_only(sequences, tmp_path):
    sequences.save(tmp_path)
    loaded = Sequences.load(tmp_path)
    assert loaded.features == sequences.features
    with pytest.raises(TypeError, match="does not support item assignment"):
        loaded.x[0, 0] = 1
