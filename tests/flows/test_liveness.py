"""Killed runs of every flow can be found."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from prefect import Flow

import flows
from flows.liveness import FLOW_NAMES


def test_every_flow_is_one_whose_dead_runs_are_looked_for():
    modules = [
        import_module(f"flows.{module.name}") for module in pkgutil.iter_modules(flows.__path__)
    ]
    found = {
        thing.name
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, Flow)
    }
    assert found == set(FLOW_NAMES)
