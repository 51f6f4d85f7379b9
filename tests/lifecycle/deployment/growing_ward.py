"""A ward whose records grow month by month, and experiments on it without Prefect.

Each stay lasts 4 to 8 days. From its heart rate a patient's risk of an onset the next day follows;
from ``Ward.lactate_since`` on lactate is measured as well, and explains more than the heart rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from flowsheet.config import (
    CohortConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    TuningConfig,
)
from flowsheet.lifecycle.experiment import prepare, record
from flowsheet.lifecycle.experiment.evaluate import evaluate_models
from flowsheet.lifecycle.experiment.folds import ExperimentResults, plan_folds
from flowsheet.lifecycle.experiment.record import RunSummary
from flowsheet.lifecycle.experiment.train import train_model
from tests.model_packages import contract_table
from tests.tiny import experiment

START = datetime(2030, 1, 1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Ward:
    """The ward on some day: its first ``stays`` patients."""

    stays: int
    lactate_since: int = 10**9
    """The first stay whose lactate is measured."""
    first_stay: int = 0
    seed: int = 0
    site: str = "home"

    def write(self, folder: Path) -> Path:
        """Write the tables without a manifest."""
        folder.mkdir(parents=True, exist_ok=True)
        stays = [self._draw(i) for i in range(self.first_stay, self.first_stay + self.stays)]
        for table in ("stays", "events", "episodes"):
            rows = [row for stay in stays for row in stay[table]]
            columns = {name: [row.get(name) for row in rows] for name in rows[0]}
            contract_table(table, columns).write_parquet(folder / f"{table}.parquet")
        return folder

    def _draw(self, i: int) -> dict[str, list[dict[str, object]]]:
        """The rows of one stay, which do not depend on how many others there are."""
        rng = np.random.default_rng([self.seed, i])
        stay_id = 1000 + i
        admitted = START + i * timedelta(hours=6) + timedelta(minutes=int(rng.integers(0, 300)))
        days = int(rng.integers(4, 9))
        heart, lactate = rng.normal(size=(2, days))
        has_lactate = i >= self.lactate_since
        log_odds = -1.6 + 0.9 * heart + (2.2 * lactate if has_lactate else 0)
        onset = rng.random(days) < 1 / (1 + np.exp(-log_odds))
        events, episodes = [], []
        for day in range(days):
            time = admitted + day * DAY + timedelta(hours=12)
            values = {"hr": 80 + 15 * heart[day]}
            if has_lactate:
                values["lact"] = np.exp(0.5 + 0.4 * lactate[day])
            events += [
                {"stay_id": stay_id, "time": time, "known_at": time, "variable": name, "value": v}
                for name, v in values.items()
            ]
            if onset[day] and day + 1 < days:
                begin = admitted + (day + 1) * DAY + timedelta(hours=6)
                end = begin + DAY
                times = {"onset": begin, "end": end, "known_at": begin}
                episodes.append({"stay_id": stay_id, "response": "sepsis", **times})
        stay = {
            "stay_id": stay_id,
            "subject_id": 5000 + i - i % 10 // 9,  # every tenth patient comes twice
            "site": self.site,
            "admitted_at": admitted,
            "discharged_at": admitted + days * DAY,
            "age": float(30 + i % 50),
            "sex": "FM"[i % 2],
        }
        return {"stays": [stay], "events": events, "episodes": episodes}


def configure(name: str, folder: Path, **changes: object) -> ExperimentConfig:
    """A logistic regression on the ward in the folder."""
    config = experiment(
        name,
        cohort=CohortConfig(name="extract", source="extract", path=str(folder)),
        features=FeaturesConfig(name="plain", missing_indicators=True, hours_since_measured=False),
        tuning=TuningConfig(name="none", trials=1),
        evaluation=EvaluationConfig(name="holdout", test=0.3, resamples=50),
    )
    return config.model_copy(update=changes)


def run(config: ExperimentConfig) -> RunSummary:
    """Run the experiment as the flow does, in this process."""
    extract = prepare.ingest_cohort(config.cohort, print)
    windows = prepare.build_windows(extract, config.task, config.features)
    split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
    plan = plan_folds(config, extract, windows, split)
    with record.track_experiment(config, plan, {}) as parent:
        trained = {
            fold.name: {
                model: train_model(config, model, fold.data, lambda trial: None, print)
                for model in config.models
            }
            for fold in plan.all_folds
        }
        results = ExperimentResults(
            config=config,
            plan=plan,
            trained=trained,
            excluded_models={},
            evidence=evaluate_models(config, plan, trained),
        )
        return record.record_results(results, parent, print)


def extract_folder(config: ExperimentConfig) -> Path:
    """The folder of the experiment's cohort extract."""
    return prepare.open_extract(prepare.ingest_cohort(config.cohort, print)).path
