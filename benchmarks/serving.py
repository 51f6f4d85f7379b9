"""How many stays of 48 hours a server answers, beside ``mlflow models serve``; one JSON line a
figure.

    python benchmarks/serving.py [--seconds 60] [--clients 50] [--home FOLDER] [--shadow] [--mlflow]

A ward like PhysioNet 2019's set A (hourly, 34 variables, about 350 rows in 48 hours), an LSTM of
128 units over the standard features, one server process, and a client process that keeps
``--clients`` connections busy with one stay a request. Seconds of CPU are each process's own; the
client's share is of one core, and what it takes the server cannot have. The model is trained for
one pass: it is timed, not judged; ``--home`` keeps it for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from flowsheet.cohort.catalogue import variables
from flowsheet.cohort.schema import TABLES, TIME, Tables, empty_table
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.models.base import MODELS, Context
from flowsheet.prediction.input_rows import to_rows
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler

NAME = "bench-lstm"
HOURS = 48
SHARES = {
    "hr": 0.9,
    "o2sat": 0.87,
    "temp": 0.34,
    "sbp": 0.85,
    "map": 0.88,
    "dbp": 0.69,
    "resp": 0.85,
    "etco2": 0.04,
}
LABS = (
    *(
        "be",
        "bicar",
        "fio2",
        "ph",
        "pco2",
        "sao2",
        "ast",
        "bun",
        "alp",
        "ca",
        "cl",
        "crea",
        "bili_dir",
        "glu",
        "lact",
    ),
    *("mg", "phos", "k", "bili", "tri", "hct", "hgb", "ptt", "wbc", "fgn", "plt"),
)
TASK = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")
FEATURES = FeaturesConfig(
    name="standard", variables="all", aggregations=("last",), carry_forward_hours=48, missing_indicators=True,
    hours_since_measured=True, treatments="all", statics=("age", "sex", "unit", "hours_in_hospital"), time=True,
)  # fmt: skip


def ward(stays: int, seed: int = 0) -> Tables:
    """Stays of 48 hours, charted on the hour about as often as in set A."""
    rng = np.random.default_rng(seed)
    names = np.array([*SHARES, *LABS])
    share = np.array([*SHARES.values(), *[0.07] * len(LABS)])
    stay, hour, column = np.nonzero(rng.random((stays, HOURS, len(names))) < share)
    time_ = np.datetime64("2000-01-01", "us") + (hour + 1) * np.timedelta64(3_600_000_000, "us")
    low, high = (
        np.array([getattr(variables()[n], end) for n in names])[column] for end in ("low", "high")
    )
    value = np.round(low + (high - low) * rng.beta(4, 4, len(stay)), 2)
    charted = {
        "stay_id": stay + 1,
        "time": time_,
        "known_at": time_,
        "variable": names[column],
        "value": value,
    }
    ids, day = np.arange(stays) + 1, datetime(2000, 1, 1)
    people = {
        "stay_id": ids, "subject_id": ids, "hospital_admitted_at": [datetime(1999, 12, 31)] * stays,
        "admitted_at": [day] * stays, "discharged_at": [datetime(2000, 1, 3)] * stays,
        "age": rng.integers(20, 90, stays).astype(float), "sex": rng.choice(["F", "M"], stays),
        "unit": rng.choice(["MICU", "SICU"], stays),
    }  # fmt: skip
    ill = ids[::5]
    told = {
        "stay_id": ill,
        "onset": [datetime(2000, 1, 2)] * len(ill),
        "known_at": [datetime(2000, 1, 2)] * len(ill),
    }
    return Tables(
        _table("stays", people),
        _table("events", charted),
        empty_table("treatments"),
        _table("episodes", told),
    )


def _table(name: str, columns: dict) -> pl.DataFrame:
    given = pl.DataFrame(
        columns, schema_overrides={c: k for c, k in TABLES[name].items() if c in columns}
    )
    return pl.concat([empty_table(name), given], how="diagonal")


def fit(folder: Path, tables: Tables, seed: int) -> ModelPackage:
    """An LSTM of 128 units after one pass."""
    held = {"variables": (*SHARES, *LABS), "drugs": (), "vocabulary": collect_vocabulary(tables)}
    sequences = build_sequences(tables, TASK, FEATURES, held["variables"], (), held["vocabulary"])
    scaler = Scaler.fit(sequences)
    scaled = scaler.transform(sequences)
    model = MODELS.get("lstm")(MODELS.get("lstm").Params(epochs=1, hidden=128))
    model.fit(scaled, scaled, Context(seed=seed))
    (folder / "saved").mkdir(parents=True)
    model.save(folder / "saved")
    return ModelPackage.write(
        folder / "model_package", kind="lstm", model=folder / "saved", scaler=scaler, task=TASK, features=FEATURES,
        columns=held, training_key=f"{seed}" * 64,
    )  # fmt: skip


def prepare(tables: Tables) -> None:
    """Register two versions, the first as champion and the second as challenger."""
    from flowsheet.tracking.model_registry import register
    from flowsheet.tracking.packaging import log_model
    from flowsheet.tracking.store import artifact_root, connect

    client = connect()
    experiment = client.create_experiment("bench", artifact_root())
    for seed, alias in ((1, "champion"), (2, "challenger")):
        run = client.create_run(experiment).info.run_id
        with tempfile.TemporaryDirectory() as folder:
            model_package = fit(Path(folder) / "fit", tables, seed)
            version = register(
                NAME, run, log_model(run, model_package.folder), model_package.training_key
            )
        client.set_registered_model_alias(NAME, alias, str(version))


def bodies(tables: Tables, form: str) -> list[bytes]:
    """One request a stay: "records" or "columns" for flowsheet, "mlflow" for MLflow's own door."""
    made = []
    for stay in tables.stays["stay_id"]:
        mine = Tables(*(getattr(tables, name).filter(pl.col("stay_id") == stay) for name in TABLES))
        if form == "mlflow":
            split = json.loads(
                to_rows(mine).to_json(orient="split", index=False, double_precision=15)
            )
            made.append(json.dumps({"dataframe_split": split}).encode())
            continue
        told = {}
        for name in TABLES:
            text = getattr(mine, name).with_columns(pl.col(TIME).dt.to_string("iso:strict"))
            rows = [
                {k: v for k, v in row.items() if v is not None}
                for row in text.iter_rows(named=True)
            ]
            told[name] = rows if form == "records" else text.to_dict(as_series=False)
        made.append(orjson.dumps(told))
    return made


async def load(port: int, path: str, sent: list[bytes], clients: int, seconds: float) -> dict:
    """Keep every connection busy for so long; what came back."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
    heads = [f"{head}{len(body)}\r\n\r\n".encode() for body in sent]
    latencies: list[float] = []
    statuses: Counter = Counter()
    start, used = time.perf_counter(), time.process_time()
    stop = start + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        turn = number
        while time.perf_counter() < stop:
            begin = time.perf_counter()
            try:
                writer.write(heads[turn % len(sent)] + sent[turn % len(sent)])
                told = await reader.readuntil(b"\r\n\r\n")
                size = int(told.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                statuses[told[9:12].decode()] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                statuses[type(error).__name__] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            latencies.append(time.perf_counter() - begin)
            turn += clients
        writer.close()

    await asyncio.gather(*(client(i) for i in range(clients)))
    lasted, used = time.perf_counter() - start, time.process_time() - used
    took = np.array(latencies) * 1000
    return {
        "requests": len(took), "rps": round(len(took) / lasted, 1), "statuses": dict(statuses),
        "errors": sum(n for status, n in statuses.items() if status != "200"),
        **{f"p{q}_ms": round(float(np.percentile(took, q)), 1) for q in (50, 95, 99)},
        "max_ms": round(float(took.max()), 1), "client_cpu_share": round(used / lasted, 3),
    }  # fmt: skip


def _client(pipe, *given) -> None:
    pipe.send(asyncio.run(load(*given)))


def drive(
    port: int, path: str, sent: list[bytes], clients: int, seconds: float, *, pid: int = 0
) -> dict:
    """:func:`load` in a process of its own; with a ``pid``, how large that process is after 10 s."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_client, args=(theirs, port, path, sent, clients, seconds)
    )
    process.start()
    memory = {} if not pid or ours.poll(10) else {"rss_mb_at_10_s": rss_mb(pid)}
    told = ours.recv()
    process.join()
    return {**told, **memory}


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(p for child in children for p in family(int(child)))]


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    lines = [
        line for one in family(pid) for line in Path(f"/proc/{one}/status").read_text().splitlines()
    ]
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


@contextlib.contextmanager
def server(command: list[str], url: str, log: Path):
    """A server process, from its first answer to SIGTERM; yields its pid."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w") as out:
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
                raise RuntimeError(log.read_text())
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
                break
            time.sleep(0.2)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def batch_size(port: int) -> float | None:
    """Requests a batch so far, as the server's own metrics tell; None for a server that has none."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page,
    ):
        told = dict(
            line.rsplit(" ", 1)
            for line in page.read().decode().splitlines()
            if not line.startswith("#")
        )
        return round(
            float(told["flowsheet_batch_requests_sum"])
            / float(told["flowsheet_batch_requests_count"]),
            1,
        )
    return None


def measure(what: str, pid: int, path: str, sent: list[bytes], given: argparse.Namespace) -> None:
    drive(given.port, path, sent, given.clients, given.warm)
    before = cpu_seconds(pid)
    told = drive(given.port, path, sent, given.clients, given.seconds, pid=pid)
    used = cpu_seconds(pid) - before
    line = {
        "what": what, "clients": given.clients, "seconds": given.seconds, **told,
        "server_cpu_ms_per_request": round(1000 * used / max(told["requests"], 1), 2),
        "body_kb": round(np.mean([len(b) for b in sent]) / 1000, 1),
        "requests_a_batch": batch_size(given.port), "rss_mb_end": rss_mb(pid),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm", type=float, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--form", choices=["records", "columns"], default="records")
    parser.add_argument(
        "--shadow", action="store_true", help="let the challenger score the same requests"
    )
    parser.add_argument("--mlflow", action="store_true", help="measure `mlflow models serve` too")
    parser.add_argument(
        "--home",
        type=Path,
        help="a folder that keeps the trained model; else one for this time only",
    )
    given = parser.parse_args()
    with (
        contextlib.nullcontext(given.home) if given.home else tempfile.TemporaryDirectory() as home
    ):
        os.environ["FLOWSHEET_HOME"] = str(home)
        tables = ward(200)
        if not (Path(home) / "mlflow").exists():
            prepare(tables)
        log = Path(home) / "server.log"
        command = [
            "flowsheet",
            "serve",
            NAME,
            "--port",
            str(given.port),
            *(["--shadow", "challenger"] * given.shadow),
        ]
        with server(command, f"http://127.0.0.1:{given.port}/ready", log) as pid:
            what = f"flowsheet serve, {given.form}" + (", shadow" if given.shadow else "")
            measure(what, pid, "/predict", bodies(tables, given.form), given)
        if given.mlflow:
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow/mlflow.db"
            command = [
                "mlflow",
                "models",
                "serve",
                "-m",
                f"models:/{NAME}@champion",
                "--env-manager",
                "local",
            ]
            command += ["--port", str(given.port), "--host", "127.0.0.1", "--workers", "1"]
            with server(command, f"http://127.0.0.1:{given.port}/ping", log) as pid:
                measure("mlflow models serve", pid, "/invocations", bodies(tables, "mlflow"), given)


if __name__ == "__main__":
    main()
