"""Try a model package in a child process, before a server takes it over.

A reader in compiled code can end its process on a file that it cannot read: LightGBM does so on a
malformed text. In a child process that is an error like any other, and the server goes on.

``python -m flowsheet.serving.load_trial FOLDER`` loads the package and predicts the example; it
prints what is wrong and exits with 1 if that fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from flowsheet.errors import CheckFailed, FlowsheetError, first_line
from flowsheet.prediction.input_rows import example_tables
from flowsheet.prediction.model_package import ModelPackage

_TIMEOUT_SECONDS = 120.0


def try_package(folder: Path, reference: str) -> None:
    """Load a model package and predict the example in a child process.

    Args:
        folder: the model package.
        reference: ``NAME/VERSION``, for error messages.

    Raises:
        CheckFailed: the package cannot be loaded, or predicts no risks; the child process was
            killed or took too long.
    """
    command = [sys.executable, "-P", "-m", "flowsheet.serving.load_trial", str(folder)]
    one_thread = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}  # the server needs the others
    try:
        trial = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **one_thread},
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(
            f"the model could not be loaded and tried within {_TIMEOUT_SECONDS:g} s",
            where=reference,
        ) from None
    if trial.returncode < 0:
        raise CheckFailed(
            f"the model ended the process that tried it ({_signal_name(-trial.returncode)})",
            where=reference,
            todo="a file of the package cannot be read: train the model again",
        )
    if trial.returncode:
        reason = trial.stdout.decode(errors="replace").strip().rpartition("\n")[2]
        raise CheckFailed(reason or "the model could not be loaded", where=reference)


def check_example(model_package: ModelPackage, where: str) -> None:
    """Reject a model that cannot score the example; scoring it also warms the model up.

    Raises:
        CheckFailed: the model does not predict risks.
    """
    risk = model_package.predict(example_tables())["risk"]
    if not len(risk) or not risk.is_between(0, 1).all():
        raise CheckFailed(
            "the model does not predict risks between 0 and 1 for the example", where=where
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main(folder: str) -> None:
    """Try the package in this process; print what is wrong with it and exit with 1."""
    try:
        check_example(ModelPackage.load(Path(folder)), folder)
    except FlowsheetError as error:
        print(error.what)
    except Exception as error:
        print(f"{type(error).__name__}: {first_line(error)}")
    else:
        return
    raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1])
