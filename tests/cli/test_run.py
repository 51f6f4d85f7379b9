from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flowsheet.cli import main

SPAWN_A_WORKER = """
import multiprocessing, sys
from flowsheet.cli.run import _importable_flows, _load_entrypoint

if __name__ == "__main__":
    before = list(sys.path)
    with _importable_flows():
        function = _load_entrypoint("flows.retries:is_outage")
        assert sys.path != before
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(function, [ValueError()]) is False
    assert sys.path == before
"""


def test_worker_processes_import_flows_and_the_path_is_restored(tmp_path: Path):
    script = tmp_path / "spawn.py"
    script.write_text(SPAWN_A_WORKER, encoding="utf-8")
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, timeout=120)


def test_a_dry_run_prints_the_complete_configuration(capsys):
    main(["run", "demo", "tuning.trials=7", "--dry-run"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["name"] == "demo"
    assert config["tuning"]["trials"] == 7


def test_a_dry_run_checks_the_parameters_of_models(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "demo", "models.lstm.params.hiden=3", "--dry-run"])
    assert ended.value.code == 2
    assert 'did you mean "hidden"' in capsys.readouterr().err
