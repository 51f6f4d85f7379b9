"""``tuning.minutes``: the time that the searches of an experiment take together, shared out.

Each fold has an equal part of the time. In a fold each model that has something to search gets its
part, in proportion to ``minutes_weight``, of what is left when its search begins: what one model
leaves over goes on to those that begin after it. A file in the store keeps what was granted and
used, so that a run that is started again counts what it had used before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsheet.config import ExperimentConfig, TuningConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment.stage import is_complete
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locks import exclusive_lock
from flowsheet.state.store import Store
from flowsheet.tuning.space import resolve

_FILE = "searches.json"
"""{model: {"granted": minutes, "used": minutes or null while it searches}}."""


@dataclass
class SearchTime:
    """The time of one model's search in one fold."""

    tuning: TuningConfig
    """With the granted time as its limit."""
    used_minutes: float = 0.0
    """To be set when the search has ended."""


def list_weights(config: ExperimentConfig) -> dict[str, float]:
    """The weights of the models that have something to search."""
    return {
        name: model.minutes_weight
        for name, model in config.models.items()
        if model.trials != 1 and resolve(model.kind, model).ranges
    }


def fair_share(config: ExperimentConfig, name: str, folds: int) -> float | None:
    """The minutes of a model if nobody leaves any over; None where its search has no share."""
    weights = list_weights(config)
    if config.tuning.minutes is None or name not in weights:
        return None
    return config.tuning.minutes / folds * weights[name] / sum(weights.values())


@contextlib.contextmanager
def search_time(
    config: ExperimentConfig, name: str, keys: Mapping[str, str], folds: int
) -> Iterator[SearchTime]:
    """Grant a model's search its time, and note in the end what it has used.

    Args:
        config: the experiment's configuration.
        name: the model.
        keys: {model: key of its training} in this fold.
        folds: number of folds that share the time.
    """
    share = fair_share(config, name, folds)
    if share is None:
        yield SearchTime(config.tuning)
        return
    store = Store.open()
    folder = store.work_dir("searches", digest(dict(keys)))
    if store.remote is None:
        share = _grant(folder, config, name, keys, folds)
    limit = min(share, config.tuning.timeout_minutes or share)
    time = SearchTime(config.tuning.model_copy(update={"timeout_minutes": limit}))
    try:
        yield time
    except CheckFailed:  # the model does not apply: its time is left over
        _settle(folder, name, 0.0)
        raise
    _settle(folder, name, time.used_minutes)


def _grant(
    folder: Path,
    config: ExperimentConfig,
    name: str,
    keys: Mapping[str, str],
    folds: int,
) -> float:
    """The minutes of a search: granted before, or the model's part of what is left.

    Args:
        folder: where the fold's searches are noted.
        config: the experiment's configuration.
        name: the model.
        keys: {model: key of its training} in this fold.
        folds: number of folds that share the time.
    """
    weights = list_weights(config)
    assert config.tuning.minutes is not None
    with exclusive_lock(folder / "lock"):
        searches = _read(folder)
        for other in weights.keys() - searches.keys() - {name}:
            if (used := _used_elsewhere(keys[other])) is not None:
                searches[other] = {"granted": used, "used": used}
        if name not in searches:
            spent = sum(_spent(search) for search in searches.values())
            left = max(0.0, config.tuning.minutes / folds - spent)
            waiting = sum(weights[other] for other in weights.keys() - searches.keys())
            searches[name] = {"granted": left * weights[name] / waiting, "used": None}
        write_json(folder / _FILE, searches)
        return float(searches[name]["granted"])


def sum_minutes(trials: Iterable[Mapping[str, Any]]) -> float:
    """How long the trials took together."""
    return float(sum(trial["seconds"] for trial in trials)) / 60


def _used_elsewhere(key: str) -> float | None:
    """The minutes of a search in another run, whose result is in the store; None: it is not."""
    if not is_complete("model", key):
        return None
    return sum_minutes(read_json(Store.open().path("model", key) / "tuning.json")["trials"])


def _settle(folder: Path, name: str, used: float) -> None:
    with exclusive_lock(folder / "lock"):
        searches = _read(folder)
        granted = searches.get(name, {}).get("granted", used)
        write_json(folder / _FILE, searches | {name: {"granted": granted, "used": used}})


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / _FILE
    return dict(read_json(file)) if file.exists() else {}


def _spent(search: Mapping[str, Any]) -> float:
    """Of a search that goes on, all that was granted to it."""
    return float(search["granted"] if search["used"] is None else search["used"])
