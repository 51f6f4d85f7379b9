"""Every registered model keeps the contract, whoever adds it."""

from flowsheet.models.base import MODELS
from flowsheet.testing.models import ModelConformance

SMALLER = {"epochs": 12, "hidden": 16, "batch": 4, "learning_rate": 0.02, "averaging": 0.5, "rounds": 30}
"""Parameters that make a fit quick, for the models that have them."""


def _suite(kind: str) -> type[ModelConformance]:
    fields = MODELS.get(kind).Params.model_fields
    params = {name: value for name, value in SMALLER.items() if name in fields}
    return type(f"Test_{kind}", (ModelConformance,), {"kind": kind, "params": params})


globals().update({f"Test_{kind}": _suite(kind) for kind in MODELS.names()})
