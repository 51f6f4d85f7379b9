"""Default models on small cohorts, beside a plain pipeline of scikit-learn.

    python benchmarks/small_cohorts.py EXTRACT [--task early_warning] [--features standard]
        [--subjects 300 1000 3000] [--repeats 3] [--models logistic_regression gru]

Draws cohorts of each size, fits every model with its default parameters, and scores the same
subjects, which are in none of the cohorts. The pipeline imputes medians, scales, and fits a ridge
logistic regression whose penalty is chosen by cross-validation over subjects; it is given the
inputs of the same rows. The models hold out a fifth of the cohort for early stopping; the pipeline
takes all of it. Prints one JSON line a fit, then the pairs of means.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flowsheet as fs
from flowsheet.models.base import MODELS, Context
from flowsheet.typing import Floats, Ints
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

TEST_SHARE, MOST_TEST_SUBJECTS = 4, 3_000
PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
PIPELINE = "scikit-learn"


def fit_pipeline(cohort: Sequences, test: Sequences) -> Floats:
    """Risks (N,) of the test rows."""
    rows = np.flatnonzero(cohort.scored)
    x = np.asarray(cohort.x[rows], np.float64)
    is_known = ~np.isnan(x).all(axis=0)
    classifier = LogisticRegression(max_iter=300)
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), classifier)
    grid = {"logisticregression__C": PENALTIES}
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=GroupKFold(5))
    subjects = cohort.subject_id[cohort.row_stay[rows]]
    search.fit(x[:, is_known], cohort.y[rows], groups=subjects)
    risks = search.predict_proba(np.asarray(test.x[:, is_known], np.float64))
    return np.asarray(risks[:, 1])


def fit_model(kind: str, cohort: Sequences, subjects: Ints, test: Sequences) -> Floats:
    """Risks (N,) of the test rows, with default parameters."""
    held_out = subjects[: max(1, len(subjects) // 5)]
    is_held_out = np.isin(cohort.subject_id, held_out)
    train, valid = cohort.take(~is_held_out), cohort.take(is_held_out)
    cls = MODELS.get(kind)
    if cls.capabilities.scaled:
        scaler = Scaler.fit(train)
        train, valid, test = (scaler.transform(part) for part in (train, valid, test))
    model = cls(cls.Params())
    model.fit(train, valid, Context(seed=1))
    return model.predict_proba(test)


def compare(args: argparse.Namespace) -> None:
    """Print every fit, and the means."""
    sequences = fs.windows(fs.Extract(args.extract), args.task, args.features).sequences
    subjects = np.unique(sequences.subject_id)
    np.random.default_rng(0).shuffle(subjects)
    n_test = min(MOST_TEST_SUBJECTS, len(subjects) // TEST_SHARE)
    test, others = sequences.select_subjects(subjects[:n_test]), subjects[n_test:]
    for size in args.subjects:
        scores: dict[str, list[float]] = defaultdict(list)
        for repeat in range(args.repeats):
            chosen = np.random.default_rng(100 + repeat).choice(others, size, replace=False)
            cohort = sequences.select_subjects(chosen)
            for kind in (PIPELINE, *args.models):
                is_pipeline = kind == PIPELINE
                risks = (
                    fit_pipeline(cohort, test)
                    if is_pipeline
                    else fit_model(kind, cohort, chosen, test)
                )
                auroc = float(roc_auc_score(test.y[test.scored], risks[test.scored]))
                scores[kind].append(auroc)
                show(subjects=size, repeat=repeat, model=kind, auroc=round(auroc, 4))
        means = {kind: round(float(np.mean(values)), 4) for kind, values in scores.items()}
        for kind in args.models:
            difference = round(means[kind] - means[PIPELINE], 4)
            show(subjects=size, model=kind, **{PIPELINE: means[PIPELINE]}, difference=difference)


def show(**values: object) -> None:
    """One JSON line."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extract", type=Path)
    parser.add_argument("--task", default="early_warning")
    parser.add_argument("--features", default="standard")
    parser.add_argument("--subjects", type=int, nargs="+", default=[300, 1_000, 3_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--models", nargs="+", default=["logistic_regression", "gradient_boosting", "gru"]
    )
    compare(parser.parse_args())
