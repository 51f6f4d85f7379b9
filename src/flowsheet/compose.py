"""From YAML choices and ``key=value`` overrides to one validated configuration.

An experiment file names one choice of each group and overrides some of their values::

    cohort: simulated            # conf/cohort/simulated.yaml
    models: [lstm, gradient_boosting]
    override:
      tuning: {trials: 3}

On the command line ``tuning=standard`` makes another choice and ``tuning.trials=3`` sets a value,
which is read by the type of its key (``config.overrides``). They are applied in the order in which
they are typed, after all that the experiment file says: what is typed last wins.

A choice is looked for in the folders of ``FLOWSHEET_CONF`` (``--conf`` adds one), then in the
``conf/`` of the project, then among the shipped ones: the first file of its name counts. In each
folder the files in ``local/`` (not under version control) take precedence.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowsheet.config import FLOOR_MODELS, CohortConfig, ExperimentConfig, validate_config
from flowsheet.config.overrides import (
    absolute_location,
    find_type,
    is_text,
    path_exists,
    read_text,
    read_yaml,
    set_value,
)
from flowsheet.errors import UsageError, did_you_mean, first_line
from flowsheet.plugins import Registry
from flowsheet.project import current_project

CONF = "FLOWSHEET_CONF"
"""Environment variable: folders of own choices, separated like those of ``PATH``."""
GROUPS = ("cohort", "task", "features", "tuning", "evaluation", "alerting", "compute")
_DEFAULT_CHOICES = {"alerting": "standard"}
"""Of groups that an experiment need not name."""
OPTIONAL_GROUPS = ("ablation",)
"""Groups of which an experiment may choose nothing."""
CHOICES = (*GROUPS, *OPTIONAL_GROUPS, "models")
_EXPERIMENT_KEYS = {"name", "description", "seed", "registry", "memory", "floor"}
"""Keys of an experiment file that are values and not choices."""
_SUFFIXES = (".yaml", ".yml")
_PACKAGE = Path(__file__).resolve().parent


def resource_dir(kind: str) -> Path:
    """The folder ``conf`` or ``flows`` of the checkout, or of the installed package.

    Raises:
        UsageError: there is no such folder.
    """
    candidates = [_PACKAGE.parents[1] / kind, _PACKAGE / "_share" / kind]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UsageError(
        f"the folder {kind}/ does not exist",
        where=", ".join(map(str, candidates)),
        todo="install flowsheet again",
    )


def conf_folders() -> list[Path]:
    """The folders of choices, the one with precedence first.

    Raises:
        UsageError: ``FLOWSHEET_CONF`` names a folder that does not exist.
    """
    configured = [Path(name) for name in os.environ.get(CONF, "").split(os.pathsep) if name]
    for folder in configured:
        if not folder.is_dir():
            raise UsageError(
                "the folder of choices does not exist",
                where=str(folder),
                todo=f"correct --conf or {CONF}: folders with the layout of conf/",
            )
    project = current_project()
    own = [project.conf_folder] if project else []
    folders = [*configured, *own, resource_dir("conf")]
    return list(dict.fromkeys(folder.absolute() for folder in folders))


def add_conf_folder(folder: Path) -> None:
    """Give a folder of choices precedence over the others, in this process and its children.

    Raises:
        UsageError: it does not exist.
    """
    others = [name for name in os.environ.get(CONF, "").split(os.pathsep) if name]
    os.environ[CONF] = os.pathsep.join(dict.fromkeys([str(folder.absolute()), *others]))
    conf_folders()


def choices(group: str) -> list[str]:
    """The names of a group's choices."""
    return sorted({path.stem for folder in _folders(group) for path in folder.glob("*.yaml")})


def _folders(group: str) -> list[Path]:
    """The group's folders, the one with precedence first."""
    return [folder for conf in conf_folders() for folder in (conf / "local" / group, conf / group)]


def load(group: str, name: str) -> dict[str, Any]:
    """One choice as plain data; its ``name`` defaults to the name of its file.

    A model without a file is the registered model of that name with its default parameters.

    Raises:
        UsageError: there is no such choice, or its file is not YAML with keys.
    """
    path = _find_file(group, name)
    if path is None:
        return {"kind": name}
    values = _read_file(path)
    if group != "model":
        values.setdefault("name", name)
    return values


_MAX_HINT = 500
"""Characters of a library's message that an error repeats."""


def _read_file(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception as error:  # of YAML, of OmegaConf, RecursionError, or of a number's digits
        hint = str(error)[:_MAX_HINT]
        raise UsageError("the file is not valid YAML", where=str(path), todo=hint) from error
    if not isinstance(values, dict):
        raise UsageError("the file must contain keys and values", where=str(path))
    return {str(key): value for key, value in values.items()}


def comment(group: str, name: str) -> str:
    """The first sentence of the comment with which a choice's file begins; empty without one.

    >>> comment("tuning", "none")
    'No search: the default parameters.'
    """
    lines = []
    path = _find_file(group, name)
    text = path.read_text(encoding="utf-8") if path else ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    sentence, stop, _ = " ".join(lines).partition(". ")
    return f"{sentence}." if stop else sentence


def _find_file(group: str, name: str) -> Path | None:
    """The file of a choice; None for a registered model without a file."""
    folders = _folders(group)
    names = choices(group)
    for folder in folders if name in names else []:
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    if group == "model":
        registered = _find_registered("flowsheet.models.base", "MODELS").names()
        if name in registered:
            return None
        names = sorted({*names, *registered})
    raise UsageError(
        f"there is no {group} called {name!r}",
        where=", ".join(str(folder) for folder in folders if folder.is_dir()),
        todo=did_you_mean(name, names),
    )


def load_experiment(experiment: str) -> dict[str, Any]:
    """The experiment of that name, or in that file, as plain data.

    Raises:
        UsageError: there is no such experiment or file, or it is not YAML with keys.
    """
    path = Path(experiment)
    if path.suffix not in _SUFFIXES and os.sep not in experiment:
        return load("experiment", experiment)
    if not (path_exists(path) and path.is_file()):
        hint = did_you_mean(path.stem, choices("experiment"))
        raise UsageError(
            "there is no such file of an experiment",
            where=str(path.absolute()),
            todo=f"name a YAML file, or an experiment: {hint}",
        )
    values = _read_file(path)
    values.setdefault("name", path.stem.replace("-", "_").lower())
    return values


def compose(experiment: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment of that name, or in that YAML file, with the overrides applied.

    Raises:
        UsageError: an unknown choice or key, or a value of the wrong type; the message names the
            nearest right one.
    """
    file = load_experiment(experiment)
    typed = split_overrides(overrides)
    chosen = {key: value for key, value in typed if key in CHOICES}
    file_overrides: Any = file.pop("override", None) or {}
    if not isinstance(file_overrides, dict):
        raise UsageError("'override' must contain keys and values", where=experiment)
    for group in chosen.keys() & file_overrides.keys() - {"models"}:
        del file_overrides[group]  # they belong to the file's choice, which is replaced
    _check_keys(file, experiment)
    file = _DEFAULT_CHOICES | file | chosen
    if "models" in chosen:
        file["models"] = read_yaml("models", chosen["models"])
    absent = [key for key in (*GROUPS, "models") if key not in file]
    if absent:
        raise UsageError(f"the experiment makes no choice of {', '.join(absent)}", where=experiment)
    values: dict[str, Any] = {key: file[key] for key in file.keys() & _EXPERIMENT_KEYS}
    values |= {group: load(group, str(file[group])) for group in GROUPS}
    values |= {group: _load_choice(group, str(file.get(group) or "")) for group in OPTIONAL_GROUPS}
    names = as_list(file["models"])
    values["floor"] = _has_floor(file, typed)
    if values["floor"]:
        names = list(dict.fromkeys([*names, *FLOOR_MODELS]))
    values["models"] = {str(name): load("model", str(name)) for name in names}
    model_overrides = file_overrides.get("models") or {}
    if model_overrides:
        file_overrides["models"] = {
            name: override for name, override in model_overrides.items() if name in values["models"]
        }
    merged = _apply(_merge(values, file_overrides), typed)
    return validate_config(ExperimentConfig, merged, where=f"experiment {experiment}")


def _has_floor(file: dict[str, Any], typed: Sequence[tuple[str, str]]) -> bool:
    """Whether the models of the floor are added: not where the models are typed, unless asked for.

    Raises:
        UsageError: ``floor`` is neither true nor false.
    """
    asked = file.get("floor", all(key != "models" for key, _ in typed))
    for key, text in typed:
        if key == "floor":
            asked = read_yaml(key, text)
    if not isinstance(asked, bool):
        raise UsageError(f"floor={asked!r} is neither true nor false", where="floor")
    return asked


def _check_keys(file: dict[str, Any], experiment: str) -> None:
    known = {*CHOICES, *_EXPERIMENT_KEYS}
    for key in file.keys() - known:
        raise UsageError(
            f"an experiment has no key {key!r}",
            where=experiment,
            todo=did_you_mean(key, known | {"override"}),
        )


def compose_cohort(name: str, overrides: Sequence[str] = ()) -> CohortConfig:
    """One cohort with overrides such as ``cohort.path=...``.

    Raises:
        UsageError: an unknown cohort or key, or a value of the wrong type.
    """
    typed = split_overrides(overrides)
    for key, _ in typed:
        if key.split(".")[0] != "cohort" or key == "cohort":
            raise UsageError(
                f"{key!r} is not a key of a cohort", todo="give overrides as cohort.KEY=VALUE"
            )
    merged = _apply({"cohort": load("cohort", name)}, typed)
    return validate_config(
        CohortConfig, merged["cohort"], where=f"cohort {name}", prefix=("cohort",)
    )


def as_list(models: Any) -> list[Any]:
    """The models of an experiment as a list; a single name is a list of one.

    Raises:
        UsageError: it is neither a name nor a list of names.
    """
    if isinstance(models, str):
        return [models]
    if not isinstance(models, list) or not models:
        raise UsageError(
            "models must be a list of model choices, such as models=[lstm,gradient_boosting]"
        )
    return models


def split_overrides(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values of overrides, in the order in which they were typed.

    Raises:
        UsageError: an override is not ``KEY=VALUE``.
    """
    typed = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key or key != key.strip():
            raise UsageError(
                f"{override!r} is not an override", todo="write KEY=VALUE, such as tuning.trials=3"
            )
        typed.append((key, value))
    return typed


def _merge(values: dict[str, Any], file_overrides: dict[str, Any]) -> dict[str, Any]:
    """The experiment's choices with the values that its file overrides."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        merged = OmegaConf.merge(OmegaConf.create(values), OmegaConf.create(file_overrides))
        plain = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        raise UsageError("an override cannot be applied", todo=first_line(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _apply(values: dict[str, Any], typed: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The values after the typed overrides, one after the other.

    A choice replaces all values of its group. The models were chosen before: which models a run
    has does not depend on the order, and their values are kept.
    """
    for key, text in typed:
        if key in CHOICES and key != "models":
            values[key] = _load_choice(key, text)
        elif key != "models":
            _set_typed(values, key, text)
        if key in ("tuning", "tuning.trials"):
            for model in values["models"].values():
                model["trials"] = None  # tuning.trials is typed later than the model's own
    cohort = values["cohort"]
    if cohort.get("path"):  # so that a recorded run can be repeated from any folder
        cohort["path"] = str(absolute_location(str(cohort["path"])))
    return values


def _load_choice(group: str, name: str) -> dict[str, Any] | None:
    """A choice; None of an optional group where its name is ``null`` or empty."""
    return None if group in OPTIONAL_GROUPS and name in ("", "null") else load(group, name)


def _set_typed(values: dict[str, Any], key: str, text: str) -> None:
    keys = key.split(".")
    if keys[0] in OPTIONAL_GROUPS and not values.get(keys[0]):
        raise UsageError(f"{key} changes no choice", todo=f"write {keys[0]}=NAME before it")
    _check_model_exists(keys, values)
    annotation = _find_type(values, keys)
    value = read_text(text, annotation) if is_text(annotation) else read_yaml(key, text)
    set_value(values, keys, value)
    if keys[0] == "models" and keys[2:3] == ["space"]:
        ranges = keys[3:4] or (value if isinstance(value, dict) else ())
        for parameter in ranges:  # its range is typed later than its fixed value
            values["models"][keys[1]]["params"].pop(str(parameter), None)


def _find_type(values: dict[str, Any], keys: list[str]) -> Any:
    """The type of a key; options of a source and parameters of a model are typed by them."""
    try:
        if keys[:2] == ["cohort", "options"] and len(keys) > 2:
            source = _find_registered("flowsheet.cohort.sources.base", "SOURCES")
            return find_type(source.get(str(values["cohort"]["source"])).Options, keys[2:])
        if keys[0] == "models" and keys[2:3] == ["params"] and len(keys) > 3:
            model = _find_registered("flowsheet.models.base", "MODELS")
            return find_type(model.get(str(values["models"][keys[1]]["kind"])).Params, keys[3:])
    except UsageError:
        return None  # the kind is wrong, which the validation reports
    return find_type(ExperimentConfig, keys)


def _find_registered(module: str, name: str) -> Registry[Any]:
    """A registry, by name: what is registered there is only known when it is asked for."""
    registry = getattr(importlib.import_module(module), name)
    assert isinstance(registry, Registry)
    return registry


def _check_model_exists(keys: list[str], values: dict[str, Any]) -> None:
    if keys[0] == "models" and len(keys) > 1 and keys[1] not in values["models"]:
        raise UsageError(
            f"{keys[1]!r} is not among the models of this run",
            todo=did_you_mean(keys[1], values["models"]),
        )
