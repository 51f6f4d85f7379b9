"""What a paper about the experiment must say: participants, outcome, predictors, missing data."""

from flowsheet.evaluation.study.facts import StudyFacts

__all__ = ["StudyFacts"]
