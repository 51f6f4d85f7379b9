"""From YAML choices and ``key=value`` overrides to one validated configuration.

An experiment file names one choice of each group and overrides what it likes::

    cohort: simulated            # conf/cohort/simulated.yaml
    models: [lstm, gradient_boosting]
    override:
      tuning: {trials: 3}

On the command line ``tuning=standard`` makes another choice and ``tuning.trials=3`` sets a value.
``conf/local/`` (not under version control) is looked at first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowsheet.config import CohortConfig, ExperimentConfig, validate_config
from flowsheet.errors import UsageError, did_you_mean, first_line

GROUPS = ("cohort", "task", "features", "tuning", "evaluation", "compute")
_PLAIN = {"name", "description", "seed", "registry", "memory"}
_PACKAGE = Path(__file__).resolve().parent


def resource_dir(kind: str) -> Path:
    """The folder ``conf`` or ``flows``: named by ``FLOWSHEET_CONF``, in the checkout, or inside the
    installed package.

    Raises:
        UsageError: it is nowhere.
    """
    named = os.environ.get("FLOWSHEET_CONF") if kind == "conf" else None
    candidates = (
        [Path(named)] if named else [_PACKAGE.parents[1] / kind, _PACKAGE / "_share" / kind]
    )
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UsageError(
        f"the folder {kind}/ is not there",
        where=", ".join(map(str, candidates)),
        todo="set FLOWSHEET_CONF to a folder laid out like the project's conf/",
    )


def choices(group: str) -> list[str]:
    """The names that a group offers."""
    conf = resource_dir("conf")
    return sorted(
        {p.stem for folder in (conf / "local" / group, conf / group) for p in folder.glob("*.yaml")}
    )


def load(group: str, name: str) -> dict[str, Any]:
    """One choice as plain data; its ``name`` is its file's unless it says otherwise.

    Raises:
        UsageError: there is no such choice, or its file is not YAML with keys.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    conf = resource_dir("conf")
    path = next(
        (
            p
            for p in (conf / "local" / group / f"{name}.yaml", conf / group / f"{name}.yaml")
            if p.is_file()
        ),
        None,
    )
    if path is None:
        raise UsageError(
            f"there is no {group} called {name!r}",
            where=str(conf / group),
            todo=did_you_mean(name, choices(group)),
        )
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise UsageError("the file is not valid YAML", where=str(path), todo=str(error)) from error
    if not isinstance(values, dict):
        raise UsageError("the file must hold keys and values", where=str(path))
    return {str(k): v for k, v in values.items()} | (
        {} if group == "model" else {"name": values.get("name", name)}
    )


def compose(experiment: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment of that name with the overrides applied.

    Raises:
        UsageError: an unknown choice or key, or a value of the wrong type; the message names the
        nearest right one.
    """
    plan = load("experiment", experiment)
    chosen, leaves = _sort_overrides(overrides)
    own: dict[str, Any] = dict(plan.pop("override", None) or {})
    for group in chosen.keys() & own.keys() - {"models"}:
        del own[group]  # the file's changes belong to the file's choice
    unknown = plan.keys() - {*GROUPS, "models"} - _PLAIN
    for key in unknown:
        raise UsageError(
            f"an experiment has no key {key!r}",
            where=experiment,
            todo=did_you_mean(key, {*GROUPS, "models", "override", *_PLAIN}),
        )
    plan |= chosen
    absent = [key for key in (*GROUPS, "models") if key not in plan]
    if absent:
        raise UsageError(f"the experiment makes no choice of {', '.join(absent)}", where=experiment)
    values: dict[str, Any] = {key: plan[key] for key in plan.keys() & _PLAIN}
    values |= {group: load(group, str(plan[group])) for group in GROUPS}
    values["models"] = {str(name): load("model", str(name)) for name in _listed(plan["models"])}
    own_models = own.get("models") or {}
    if own_models:
        own["models"] = {name: v for name, v in own_models.items() if name in values["models"]}
    return validate_config(
        ExperimentConfig, _merge(values, own, leaves), where=f"experiment {experiment}"
    )


def compose_cohort(name: str, overrides: Sequence[str] = ()) -> CohortConfig:
    """One cohort with overrides such as ``cohort.path=...``."""
    chosen, leaves = _sort_overrides(overrides)
    for key in [*chosen, *(leaf.split("=", 1)[0] for leaf in leaves)]:
        if key.split(".")[0] != "cohort" or key == "cohort":
            raise UsageError(
                f"{key!r} is not a key of a cohort", todo="give overrides as cohort.KEY=VALUE"
            )
    merged = _merge({"cohort": load("cohort", name)}, {}, leaves)
    return validate_config(
        CohortConfig, merged["cohort"], where=f"cohort {name}", prefix=("cohort",)
    )


def _listed(models: Any) -> list[Any]:
    if isinstance(models, str):
        return [models]
    if not isinstance(models, list) or not models:
        raise UsageError(
            "models must be a list of model choices, such as models=[lstm,gradient_boosting]"
        )
    return models


def _sort_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Choices (``cohort=simulated``) apart from values (``cohort.path=x``)."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    chosen: dict[str, Any] = {}
    leaves: list[str] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key or key != key.strip():
            raise UsageError(
                f"{text!r} is not an override", todo="write KEY=VALUE, such as tuning.trials=3"
            )
        if key in GROUPS or key == "models":
            try:
                parsed = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
            except (YAMLError, ValueError) as error:
                raise UsageError(
                    f"{text!r} has a value that cannot be read", todo=str(error)
                ) from error
            chosen[key] = parsed[key] if isinstance(parsed, dict) else value
        else:
            leaves.append(text)
    return chosen, leaves


def _merge(values: dict[str, Any], own: dict[str, Any], leaves: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        merged = OmegaConf.merge(OmegaConf.create(values), OmegaConf.create(own))
        for leaf in leaves:
            key = leaf.partition("=")[0].split(".")
            if key[0] == "models" and len(key) > 1 and key[1] not in values["models"]:
                raise UsageError(
                    f"{key[1]!r} is not among the models of this run",
                    todo=did_you_mean(key[1], values["models"]),
                )
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([leaf]))
        plain = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        raise UsageError(
            "an override cannot be applied", where=" ".join(leaves), todo=first_line(error)
        ) from error
    assert isinstance(plain, dict)
    if plain["cohort"].get("path"):  # so that a record can be run again from anywhere
        plain["cohort"]["path"] = str(Path(str(plain["cohort"]["path"])).expanduser().absolute())
    return {str(k): v for k, v in plain.items()}
