"""``python -m flowsheet.api._run_process CONFIG RESULT``: an experiment for ``fs.run``."""

from __future__ import annotations

import sys
from pathlib import Path

from flowsheet.cli.run import run_experiment
from flowsheet.config import ExperimentConfig
from flowsheet.environment import prepare_process
from flowsheet.errors import FlowsheetError, first_line
from flowsheet.state.json_files import read_json, write_json


def main(config: Path, result: Path) -> int:
    """Run the experiment and write the id of its run, or its error; returns the exit code."""
    prepare_process()
    try:
        summary = run_experiment(ExperimentConfig.model_validate(read_json(config)))
    except FlowsheetError as error:
        write_json(result, {"error": _name_class(error), "args": error.args})
        return error.exit_code
    except Exception as error:
        what = f"{type(error).__name__}: {first_line(error)}"
        write_json(result, {"error": "FlowsheetError", "args": [what, None, None]})
        raise
    write_json(result, {"run_id": summary.run_id})
    return 0


def _name_class(error: FlowsheetError) -> str:
    """The most special class of ``flowsheet.errors`` that the error belongs to."""
    own = (cls for cls in type(error).__mro__ if cls.__module__ == FlowsheetError.__module__)
    return next(own).__name__


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
