"""Stays of 48 hours that a server scores, beside ``mlflow models serve``; one JSON line each.

    python benchmarks/serving.py [--seconds 60] [--clients 50] [--home FOLDER] [--shadow] [--mlflow]
    python benchmarks/serving.py --explain

A ward like PhysioNet 2019's set A (hourly, 34 variables, about 350 rows in 48 hours), an LSTM of
128 units over the standard features, one server process, and a client process that keeps
``--clients`` connections busy with one stay a request. Processor seconds are each process's own;
the client's share is of one core, and the server cannot use what the client takes. The model is
trained for one epoch: its speed is measured, not its accuracy; ``--home`` keeps it for the next
run. ``--explain`` compares instead the price of an explanation of a stay's last step with that of
its prediction, for every kind of model, one request at a time and without HTTP: median processor
time from the body to the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import numpy as np
import orjson
import polars as pl
from http_load import cpu_seconds, rss_mb, send_from_process

from flowsheet.cohort.catalogue import variables
from flowsheet.cohort.schema import TABLES, TIME, Tables, empty_table
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.models.base import MODELS, Context
from flowsheet.prediction.input_rows import to_rows
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.serving.explainer import Explainer, ExplainRequest
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import Answer, Scorer
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler

NAME = "bench-lstm"
HOURS = 48
VITALS = {
    "hr": 0.9,
    "o2sat": 0.87,
    "temp": 0.34,
    "sbp": 0.85,
    "map": 0.88,
    "dbp": 0.69,
    "resp": 0.85,
    "etco2": 0.04,
}
"""{variable: share of hours in which it is measured}."""
LABS = (
    *("be", "bicar", "fio2", "ph", "pco2", "sao2", "ast", "bun", "alp", "ca", "cl", "crea"),
    *("bili_dir", "glu", "lact", "mg", "phos", "k", "bili", "tri", "hct", "hgb", "ptt", "wbc"),
    *("fgn", "plt"),
)
LAB_SHARE = 0.07
TASK = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")
FEATURES = FeaturesConfig(
    name="standard",
    variables="all",
    aggregations=("last",),
    carry_forward_hours=48,
    missing_indicators=True,
    hours_since_measured=True,
    treatments="all",
    statics=("age", "sex", "unit", "hours_in_hospital"),
    time=True,
)


def simulate_ward(stays: int, seed: int = 0) -> Tables:
    """Stays of 48 hours, measured on the hour about as often as in set A."""
    rng = np.random.default_rng(seed)
    names = np.array([*VITALS, *LABS])
    shares = np.array([*VITALS.values(), *[LAB_SHARE] * len(LABS)])
    stay, hour, column = np.nonzero(rng.random((stays, HOURS, len(names))) < shares)
    times = np.datetime64("2000-01-01", "us") + (hour + 1) * np.timedelta64(3_600_000_000, "us")
    low = np.array([variables()[name].low for name in names])[column]
    high = np.array([variables()[name].high for name in names])[column]
    events = {
        "stay_id": stay + 1,
        "time": times,
        "known_at": times,
        "variable": names[column],
        "value": np.round(low + (high - low) * rng.beta(4, 4, len(stay)), 2),
    }
    ids = np.arange(stays) + 1
    stay_rows = {
        "stay_id": ids,
        "subject_id": ids,
        "hospital_admitted_at": [datetime(1999, 12, 31)] * stays,
        "admitted_at": [datetime(2000, 1, 1)] * stays,
        "discharged_at": [datetime(2000, 1, 3)] * stays,
        "age": rng.integers(20, 90, stays).astype(float),
        "sex": rng.choice(["F", "M"], stays),
        "unit": rng.choice(["MICU", "SICU"], stays),
    }
    septic = ids[::5]
    onsets = [datetime(2000, 1, 2)] * len(septic)
    episodes = {"stay_id": septic, "onset": onsets, "known_at": onsets}
    return Tables(
        contract_table("stays", stay_rows),
        contract_table("events", events),
        empty_table("treatments"),
        contract_table("episodes", episodes),
    )


def contract_table(name: str, columns: dict) -> pl.DataFrame:
    """A table of the contract; columns that are not given are null."""
    types = {column: kind for column, kind in TABLES[name].items() if column in columns}
    rows = pl.DataFrame(columns, schema_overrides=types)
    return pl.concat([empty_table(name), rows], how="diagonal")


def fit_model(
    folder: Path, tables: Tables, seed: int, kind: str = "lstm", **params
) -> ModelPackage:
    """A model, by default an LSTM of 128 units after one epoch."""
    columns = {"variables": (*VITALS, *LABS), "drugs": (), "vocabulary": collect_vocabulary(tables)}
    sequences = build_sequences(
        tables, TASK, FEATURES, columns["variables"], (), columns["vocabulary"]
    )
    cls = MODELS.get(kind)
    scaler = Scaler.fit(sequences) if cls.capabilities.scaled else None
    scaled = scaler.transform(sequences) if scaler else sequences
    model = cls(cls.Params(**(params or {"epochs": 1, "hidden": 128})))
    model.fit(scaled, scaled, Context(seed=seed))
    (folder / "saved").mkdir(parents=True)
    model.save(folder / "saved")
    return ModelPackage.write(
        folder / "model_package",
        kind=kind,
        model=folder / "saved",
        scaler=scaler,
        task=TASK,
        features=FEATURES,
        columns=columns,
        training_key=f"{seed}" * 64,
    )


def register_models(tables: Tables) -> None:
    """Register two versions, the first as champion and the second as challenger."""
    from flowsheet.tracking.model_registry import register
    from flowsheet.tracking.packaging import log_model
    from flowsheet.tracking.store import artifact_root, connect

    client = connect()
    experiment = client.create_experiment("bench", artifact_root())
    for seed, alias in ((1, "champion"), (2, "challenger")):
        run = client.create_run(experiment).info.run_id
        with tempfile.TemporaryDirectory() as folder:
            model_package = fit_model(Path(folder) / "fit", tables, seed)
            uri = log_model(run, model_package.folder)
            version = register(NAME, run, uri, model_package.training_key)
        client.set_registered_model_alias(NAME, alias, str(version))


def encode_bodies(tables: Tables, body_format: str) -> list[bytes]:
    """One request a stay: "records" or "columns" for flowsheet, "mlflow" for MLflow."""
    encode = {"records": encode_records, "columns": encode_columns, "mlflow": encode_mlflow}
    bodies = []
    for stay_id in tables.stays["stay_id"]:
        of_stay = pl.col("stay_id") == stay_id
        stay = Tables(*(getattr(tables, name).filter(of_stay) for name in TABLES))
        bodies.append(encode[body_format](stay))
    return bodies


def encode_records(tables: Tables) -> bytes:
    request = {}
    for name in TABLES:
        rows = times_as_text(getattr(tables, name)).iter_rows(named=True)
        request[name] = [
            {column: value for column, value in row.items() if value is not None} for row in rows
        ]
    return orjson.dumps(request)


def encode_columns(tables: Tables) -> bytes:
    columns = {
        name: times_as_text(getattr(tables, name)).to_dict(as_series=False) for name in TABLES
    }
    return orjson.dumps(columns)


def encode_mlflow(tables: Tables) -> bytes:
    split = to_rows(tables).to_json(orient="split", index=False, double_precision=15)
    return json.dumps({"dataframe_split": json.loads(split)}).encode()


def times_as_text(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(TIME).dt.to_string("iso:strict"))


@contextlib.contextmanager
def start_server(command: list[str], url: str, log: Path):
    """A server process, from its first answer to SIGTERM; yields its pid."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=out,
            stderr=out,
            env=env,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(encoding="utf-8"))
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                break
            time.sleep(0.2)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def mean_batch_size(port: int) -> float | None:
    """Requests a batch so far, from the server's metrics; None for a server without them."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page,
    ):
        lines = page.read().decode().splitlines()
        metrics = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        requests = float(metrics["flowsheet_batch_requests_sum"])
        return round(requests / float(metrics["flowsheet_batch_requests_count"]), 1)
    return None


def measure(
    what: str, server_pid: int, path: str, bodies: list[bytes], options: argparse.Namespace
) -> None:
    """Print what a server needs for these requests.

    Args:
        what: names the measurement in its line.
        server_pid: the server's process.
        path: the page that scores.
        bodies: requests, which are sent in turns.
        options: of the command line.
    """
    send_from_process(options.port, path, bodies, options.clients, options.warm)
    cpu_before = cpu_seconds(server_pid)
    measured = send_from_process(
        options.port, path, bodies, options.clients, options.seconds, server_pid=server_pid
    )
    cpu = cpu_seconds(server_pid) - cpu_before
    line = {
        "what": what,
        "clients": options.clients,
        "seconds": options.seconds,
        **measured,
        "server_cpu_ms_per_request": round(1000 * cpu / max(measured["requests"], 1), 2),
        "body_kb": round(np.mean([len(body) for body in bodies]) / 1000, 1),
        "requests_a_batch": mean_batch_size(options.port),
        "rss_mb_end": rss_mb(server_pid),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(line), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm", type=float, default=5, help="seconds before the measurement")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--format", choices=["records", "columns"], default="records")
    parser.add_argument(
        "--shadow", action="store_true", help="shadow-score the same requests with the challenger"
    )
    parser.add_argument("--mlflow", action="store_true", help="measure `mlflow models serve` too")
    parser.add_argument(
        "--explain", action="store_true", help="compare the price of explanations and predictions"
    )
    parser.add_argument(
        "--home", type=Path, help="a folder that keeps the trained model (default: a temporary one)"
    )
    return parser.parse_args()


def measure_flowsheet(tables: Tables, log: Path, options: argparse.Namespace) -> None:
    command = ["flowsheet", "serve", NAME, "--port", str(options.port)]
    what = f"flowsheet serve, {options.format}"
    if options.shadow:
        command += ["--shadow", "challenger"]
        what += ", shadow"
    bodies = encode_bodies(tables, options.format)
    with start_server(command, f"http://127.0.0.1:{options.port}/ready", log) as pid:
        measure(what, pid, "/predict", bodies, options)


def measure_mlflow(tables: Tables, home: Path, log: Path, options: argparse.Namespace) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow/mlflow.db"
    command = ["mlflow", "models", "serve", "-m", f"models:/{NAME}@champion"]
    command += ["--env-manager", "local", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(options.port)]
    bodies = encode_bodies(tables, "mlflow")
    with start_server(command, f"http://127.0.0.1:{options.port}/ping", log) as pid:
        measure("mlflow models serve", pid, "/invocations", bodies, options)


EXPLAINED: dict[str, dict] = {
    "logistic_regression": {"l2": 1e-3},
    "ar": {"lags": 3},
    "arx": {"lags": 3},
    "naive_bayes": {"smoothing": 0.01},
    "svm": {"components": 256},
    "gradient_boosting": {"rounds": 200},
    "mlp": {"epochs": 1},
    "rnn": {"epochs": 1},
    "gru": {"epochs": 1},
    "lstm": {"epochs": 1},
}
"""The models whose explanations are priced, and parameters; the others have their defaults."""


def measure_explanations(tables: Tables, folder: Path, repeats: int = 60) -> None:
    """Print the price of predictions and explanations of one stay, measured in turns."""
    bodies = encode_bodies(tables, "records")[:repeats]
    for kind, params in EXPLAINED.items():
        package = fit_model(folder / kind, tables, 1, kind, **params)
        model = LoadedModel(kind, 1, "champion", package, datetime(2000, 1, 1))
        scorer = Scorer(lambda model=model: model, Limits())
        explainer = Explainer(lambda model=model: model, Limits())
        seconds: dict[str, list[float]] = {"predict": [], "explain": []}
        for body in [*bodies[:3], *bodies]:
            start = time.process_time()
            (predicted,) = scorer.score([body])
            middle = time.process_time()
            (explained,) = explainer.explain([ExplainRequest(body)])
            seconds["predict"].append(middle - start)
            seconds["explain"].append(time.process_time() - middle)
            assert isinstance(predicted, Answer), predicted
            assert isinstance(explained, Answer), explained
        predict, explain = (1000 * float(np.median(times[3:])) for times in seconds.values())
        prices = {"predict_ms": round(predict, 1), "explain_ms": round(explain, 1)}
        print(json.dumps({"kind": kind, **prices, "ratio": round(explain / predict, 2)}))


def main() -> None:
    options = parse_arguments()
    keep_home = contextlib.nullcontext(options.home)
    with keep_home if options.home else tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["FLOWSHEET_HOME"] = str(home)
        tables = simulate_ward(200)
        if options.explain:
            measure_explanations(tables, home)
            return
        if not (home / "mlflow").exists():
            register_models(tables)
        log = home / "server.log"
        measure_flowsheet(tables, log, options)
        if options.mlflow:
            measure_mlflow(tables, home, log, options)


if __name__ == "__main__":
    main()
