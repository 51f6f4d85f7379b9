"""How often promised alert policies keep their promise for all patients, not only those at hand.

Wards are simulated whose true values are known from a ward of many stays: latent severity drives
both the risk that a model states and the onsets, subjects have several stays and several onsets,
and some alert much more often than others. On each ward a policy is chosen at 95% confidence; its
promise is kept if it holds for the large ward. At least 95% of those that are made must be kept.

Run it with ``nice -n 10 python benchmarks/alert_promises.py [wards]``.
"""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np

from flowsheet.config import AlertingConfig, EvaluationConfig, TaskConfig, ThresholdBy
from flowsheet.evaluation.alert_counts import OnsetWindows
from flowsheet.evaluation.alert_judgement import judge_policies
from flowsheet.evaluation.alert_policy import AlertPolicy, raise_alerts
from flowsheet.evaluation.promises import Ratio
from flowsheet.evaluation.threshold import choose_policy
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences

DAILY = TaskConfig(name="daily")
HOURLY = TaskConfig(name="hourly", step_hours=1, horizon=6)
MANY_SUBJECTS = 20_000
CONFIG = EvaluationConfig(name="promises")
POLICIES = [
    (DAILY, {"threshold_by": "ppv", "target": 0.2}),
    (DAILY, {"threshold_by": "sensitivity", "target": 0.5}),
    (DAILY, {"threshold_by": "alerts_per_day", "target": 0.2}),
    (HOURLY, {"threshold_by": "ppv", "target": 0.1, "silence_hours": 12}),
    (HOURLY, {"threshold_by": "sensitivity", "target": 0.3, "silence_hours": 4}),
    (HOURLY, {"threshold_by": "alerts_per_day", "target": 0.5, "silence_hours": 6}),
    (HOURLY, {"threshold_by": "alerts_per_day", "target": 0.1, "max_alerts_per_day": 1}),
]
SUBJECTS = (150, 600)


def simulate_ward(task: TaskConfig, n_subjects: int, seed: int) -> tuple[Sequences, Floats]:
    """Stays and the risks that a model states for their rows."""
    rng = np.random.default_rng(seed)
    frailty = rng.normal(0, 1, n_subjects)
    subject = np.repeat(np.arange(n_subjects), rng.geometric(0.8, n_subjects))
    mean_length = 6 if task.step_hours == 24 else 40
    lengths = 2 + rng.geometric(1 / mean_length, len(subject))
    longest = int(lengths.max())
    severity = np.empty((len(subject), longest))
    level = frailty[subject] + rng.normal(0, 0.5, len(subject))
    persistence = 0.5 if task.step_hours == 24 else 0.9
    noise = rng.normal(0, np.sqrt(1 - persistence**2), (len(subject), longest))
    deviation = np.zeros(len(subject))
    for k in range(longest):
        deviation = persistence * deviation + noise[:, k]
        severity[:, k] = level + deviation
    base = -3.0 if task.step_hours == 24 else -6.0
    is_onset = rng.random(severity.shape) < 1 / (1 + np.exp(-(base + severity)))
    in_state = is_onset.copy()
    for back in range(1, 3 if task.step_hours == 24 else 24):  # an episode lasts so long
        in_state[:, back:] |= is_onset[:, :-back]
    horizon = int(task.horizon or 0)
    y = np.zeros_like(in_state)
    for ahead in range(1, horizon + 1):
        y[:, :-ahead] |= in_state[:, ahead:]
    risk = 1 / (1 + np.exp(-(base + 1.3 * severity + rng.normal(0, 0.7, severity.shape))))
    step = np.arange(1, longest + 1)
    exists = step <= lengths[:, None]
    scored = step + horizon <= lengths[:, None]
    return Sequences(
        x=np.empty((int(exists.sum()), 0), np.float32),
        y=y[exists].astype(np.int8),
        scored=scored[exists],
        in_state=in_state[exists],
        history=np.empty((int(exists.sum()), 0), np.float32),
        step=np.broadcast_to(step, exists.shape)[exists].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        stay_id=np.arange(len(subject)),
        subject_id=subject,
        features=(),
    ), risk[exists]


def compute_true_value(
    policy: AlertPolicy, kind: ThresholdBy, task: TaskConfig, ward: tuple[Sequences, Floats]
) -> float:
    """What the policy promises, of a large ward."""
    stays, risk = ward
    raised = raise_alerts(policy, task, stays.row_stay, stays.step, risk)
    return Ratio.from_counts(kind, OnsetWindows(stays, task).count(raised)).value


def main() -> None:
    """Print, for each policy, how many promises are made and kept."""
    n_wards = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    large = {task.name: simulate_ward(task, MANY_SUBJECTS, 10**6) for task in (DAILY, HOURLY)}
    for task, values in POLICIES:
        config = AlertingConfig.model_validate(values)
        assert config.target is not None
        for n_subjects in SUBJECTS:
            start = perf_counter()
            true_values, verdicts = [], []
            for ward in range(n_wards):
                stays, risk = simulate_ward(task, n_subjects, ward)
                policy = choose_policy(stays, risk, task, CONFIG, config)
                if not (policy.promise and policy.promise.is_made):
                    continue
                value = compute_true_value(policy, config.threshold_by, task, large[task.name])
                true_values.append(value)
                test, test_risk = simulate_ward(task, n_subjects, 10**5 + ward)
                judged = judge_policies(test, {"m": test_risk}, {"m": policy}, task, CONFIG)["m"]
                assert judged.promise
                verdicts.append(judged.promise.verdict)
            values_made = np.array(true_values)
            is_lower = config.threshold_by is not ThresholdBy.alerts_per_day
            kept = values_made >= config.target if is_lower else values_made <= config.target
            kept |= np.isnan(values_made)  # no alert at all
            share = kept.mean() if len(kept) else float("nan")
            counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
            print(
                f"{task.name:6} {config.threshold_by:14} {config.target:<5g} "
                f"{n_subjects:4} subjects: made {len(kept):3} of {n_wards}, kept {share:6.1%}, "
                f"true median {np.nanmedian(values_made) if len(kept) else np.nan:.3f}; on test "
                f"subjects {counts} ({perf_counter() - start:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
