"""Why a model gives a risk: contributions in the clinician's words, and their importance."""

from flowsheet.prediction.explanations.concepts import Concept, group_inputs
from flowsheet.prediction.explanations.explanation import EXPLANATIONS, Steps, explain
from flowsheet.prediction.explanations.importance import compute_importance
from flowsheet.prediction.explanations.rise import explain_rise

__all__ = [
    "EXPLANATIONS",
    "Concept",
    "Steps",
    "compute_importance",
    "explain",
    "explain_rise",
    "group_inputs",
]
