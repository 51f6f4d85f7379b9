"""A project of one's own: choices, plug-ins and concepts beside the shipped ones."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from flowsheet.cli import main
from flowsheet.cohort import catalogue
from flowsheet.compose import add_conf_folder, choices, compose, load
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.models.base import MODELS
from flowsheet.plugins import Registry, code_digest, plugin_code
from flowsheet.prediction.model_package import _check_plugin
from flowsheet.project import current_project
from tests.projects import EXPERIMENT, MODEL, VARIABLES, write_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in whose subfolder the test works."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(MODELS._classes, "constant", raising=False)  # of another test's project
    modules = set(sys.modules)
    root = write_project(tmp_path / "study")
    (root / "notebooks").mkdir()
    monkeypatch.chdir(root / "notebooks")
    yield root
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in {"my_study", "other_study"}:
            del sys.modules[name]


def test_a_project_is_found_from_the_working_folder_upwards(project, tmp_path, monkeypatch):
    assert current_project().root == project
    monkeypatch.chdir(tmp_path)
    assert current_project() is None
    monkeypatch.setenv("FLOWSHEET_PROJECT", str(project))
    assert current_project().root == project


def test_own_choices_are_added_to_the_shipped_ones(project):
    assert {"mine", "demo"} <= set(choices("experiment"))
    assert compose("mine").cohort.name == "simulated_small"


def test_the_first_folder_with_a_choice_counts(project, tmp_path, monkeypatch):
    monkeypatch.delenv("FLOWSHEET_CONF", raising=False)
    for folder, trials in ((project / "conf", 3), (tmp_path / "other", 4)):
        (folder / "tuning").mkdir(parents=True)
        (folder / "tuning" / "quick.yaml").write_text(f"trials: {trials}\n", encoding="utf-8")
    assert load("tuning", "quick")["trials"] == 3
    monkeypatch.setenv("FLOWSHEET_CONF", "")
    add_conf_folder(tmp_path / "other")
    assert load("tuning", "quick")["trials"] == 4
    with pytest.raises(UsageError, match="does not exist"):
        add_conf_folder(tmp_path / "absent")


def test_an_experiment_can_be_any_file(project, tmp_path):
    file = tmp_path / "My-Look.yaml"
    file.write_text(EXPERIMENT, encoding="utf-8")
    assert compose(str(file), ["seed=4"]).name == "my_look"
    with pytest.raises(UsageError, match="no such file"):
        compose(str(tmp_path / "demo.yaml"))


def test_an_own_model_is_found_without_a_file_of_its_choice(project, capsys):
    assert "constant" in MODELS.names()
    main(["run", "mine", "models.constant.params.scale=0.5", "--dry-run"])
    assert "scale: 0.5" in capsys.readouterr().out
    with pytest.raises(UsageError, match='did you mean "constant"'):
        compose("mine", ["models=[constand]"])


def _find_in_worker(name: str) -> str:
    return MODELS.get(name).__module__


def test_worker_processes_find_own_models(project):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_find_in_worker, ("constant",)) == "my_study.models.constant"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_like_this", "nothing_like_this"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "division by zero"),
        ("raise SystemError", "SystemError"),
        ("", r'@MODELS\.register\("broken"\)'),
    ],
)
def test_a_broken_plugin_is_named(project, code, reason):
    file = project / "src/my_study/models/broken.py"
    file.write_text(code, encoding="utf-8")
    with pytest.raises(UsageError, match=reason) as error:
        MODELS.get("broken")
    assert "broken" in str(error.value)


def test_a_name_that_is_taken_is_refused(project):
    (project / "src/my_study/models/lstm.py").write_text(MODEL, encoding="utf-8")
    with pytest.raises(UsageError, match="2 models called 'lstm'"):
        MODELS.get("lstm")


def test_an_entry_point_registers_its_class(project, monkeypatch):
    registry: Registry[object] = Registry("thing", "flowsheet.models")
    package = project.parent / "site"
    info = package / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: other\nVersion: 1.0\n", encoding="utf-8")
    points = "[flowsheet.things]\nplain = other_study:Plain\ngone = other_study:Gone\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (package / "other_study.py").write_text("class Plain: pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(package))
    assert registry.get("plain").__name__ == "Plain"
    with pytest.raises(UsageError, match="entry point of other"):
        registry.get("gone")


def test_changed_code_of_a_plugin_is_another_model(project):
    cls = MODELS.get("constant")
    before = code_digest(cls)
    (project / "src/my_study/models/constant.py").write_text(MODEL + "\n", encoding="utf-8")
    assert code_digest(cls) != before
    assert plugin_code(MODELS.get("ar1")) == {}


def test_own_variables_and_drugs_join_the_catalogue(project, tmp_path, monkeypatch):
    assert catalogue.variable("procalcitonin").high == 1000
    assert catalogue.drug("methylene_blue").unit == "mg"
    assert set(catalogue.own_concepts_key()["own_concepts"]) == {"procalcitonin", "methylene_blue"}
    monkeypatch.chdir(tmp_path)
    assert "procalcitonin" not in catalogue.variables()
    assert catalogue.own_concepts_key() == {}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("procalcitonin,p", "hr,p", "'hr' is already used"),
        ("procalcitonin,p", "vancomycin,p", "'vancomycin' is already used"),
        ("procalcitonin,p", "Procalcitonin,p", "is not a name"),
        ("0,1000", "1000,0", "range of procalcitonin is empty"),
        ("0,1000", "0,many", "high='many'"),
        ("0,1000", "0,inf", "high='inf'"),
        (",lab,", ",laboratory,", "kind='laboratory'"),
        ("ng/mL", "NG/ml", "write ng/mL"),
        ("ng/mL", "", "unit is empty"),
        ("low,high", "low,hihg", 'did you mean "high"'),
        (",source", "", "missing"),
        ("assay", "assay,more", "the line has 8 fields"),
    ],
)
def test_a_wrong_concept_is_refused_with_its_place(project, old, new, reason):
    file = project / "catalogue/variables.csv"
    file.write_text(VARIABLES.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        catalogue.variables()
    assert reason in str(error.value)
    assert "variables.csv" in str(error.value)


def test_a_package_without_its_project_says_what_is_missing(project, tmp_path, monkeypatch):
    concepts = catalogue.own_concepts(["hr", "procalcitonin"], [])
    package = {"kind": "ar1", "own_concepts": concepts}
    _check_plugin(tmp_path, package)
    plugin = {"module": "my_study.models.constant", "distribution": "my-study", "version": "1"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckFailed, match="procalcitonin"):
        _check_plugin(tmp_path, package)
    with pytest.raises(CheckFailed, match="install my-study 1"):
        _check_plugin(tmp_path, {"kind": "constant", "plugin": plugin})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("packge = 'x'", 'did you mean "package"'),
        ("package = 3", "must be a text"),
        ("package = 'absent'", "does not exist"),
        ("package = 'my-study'", "not the name of a Python package"),
        ("package =", "not valid TOML"),
    ],
)
def test_a_wrong_project_file_is_an_error(project, text, reason):
    (project / "flowsheet.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        current_project()
    assert reason in str(error.value)
