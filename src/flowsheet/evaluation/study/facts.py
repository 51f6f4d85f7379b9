"""The facts about a study that its report, its model cards and its checklist share."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from flowsheet.config import FrozenModel
from flowsheet.config.validation import validate_recorded
from flowsheet.state.json_files import read_json, write_json

STUDY_FILE = "study.json"
MANIFEST_FILE = "manifest.json"
"""Of the extract, beside the facts."""
MIN_EVENTS_PER_COLUMN = 10
"""With fewer events per input column a regression overfits (Peduzzi et al., J Clin Epidemiol 1996,
doi:10.1016/S0895-4356(96)00236-3); models that are not linear need more (van der Ploeg et al., BMC
Med Res Methodol 2014, doi:10.1186/1471-2288-14-137)."""


class Outcome(FrozenModel):
    """The outcome in words."""

    title: str
    sentences: tuple[str, ...] = ()
    changed_options: tuple[tuple[str, str, str], ...] = ()
    """(option, default, value) of the options that differ from their defaults."""
    is_computed: bool = True
    """Computed from the records by fixed rules; False where the source states it."""


class Overlap(FrozenModel):
    """Inputs that are a part of the outcome's definition."""

    part: str
    """Of the definition, such as "SOFA: renal"."""
    inputs: tuple[str, ...]


class FlowStep(FrozenModel):
    """Stays that are left after a step, from the raw records to an evaluated prediction."""

    step: str
    stays: int


class LeftOut(FrozenModel):
    """What one reason leaves out of the evaluated predictions."""

    reason: str
    rows: int
    stays: int


class Characteristic(FrozenModel):
    """A row of the table of characteristics, as text."""

    label: str
    cells: tuple[str, ...]


class Characteristics(FrozenModel):
    """The stays with an evaluated prediction, by part and by outcome."""

    columns: tuple[str, ...] = ()
    rows: tuple[Characteristic, ...] = ()


class SampleSize(FrozenModel):
    """Events in the training rows, and the input columns that they must support."""

    rows: str = "training rows"
    """Which rows the events are in."""
    columns: int
    events: int
    new_onsets: int | None = None
    """Events of patients not in the state at prediction; None where these are all events."""

    @property
    def events_per_column(self) -> float:
        """Of new onsets where these are a part of the events, else of all."""
        events = self.events if self.new_onsets is None else self.new_onsets
        return events / max(self.columns, 1)

    @property
    def is_small(self) -> bool:
        """Whether there are fewer events per column than the common minimum."""
        return self.events_per_column < MIN_EVENTS_PER_COLUMN

    @property
    def summary(self) -> str:
        """The numbers in a sentence, with a warning where they are small."""
        new = "" if self.new_onsets is None else f", {self.new_onsets:,} of them new onsets"
        of_what = "events" if self.new_onsets is None else "new onsets"
        warning = ""
        if self.is_small:
            warning = (
                f" That is fewer than {MIN_EVENTS_PER_COLUMN}: without strong regularisation, or "
                "fewer inputs, models are likely to overfit."
            )
        return (
            f"The {self.rows} have {self.events:,} events{new}, for {self.columns:,} input "
            f"columns: {self.events_per_column:.1f} {of_what} per column.{warning}"
        )


class StudyFacts(FrozenModel):
    """Everything that is known; what is empty is left out of reports."""

    outcome: Outcome
    overlap: tuple[Overlap, ...] = ()
    history_models: tuple[str, ...] = ()
    """Models with the known response history among their inputs."""
    flow: tuple[FlowStep, ...] = ()
    rows: int = 0
    """Time steps of all stays, of which ``left_out`` are not evaluated."""
    left_out: tuple[LeftOut, ...] = ()
    characteristics: Characteristics = Characteristics()
    missing_data: tuple[str, ...] = ()
    """How missing values are handled, in sentences."""
    sample_size: SampleSize | None = None
    bedside_scores: tuple[str, ...] = ()
    """Models of the experiment that are scores of everyday care."""
    agreement: tuple[dict[str, str], ...] = ()
    """Agreement of definitions of the outcome on the cohort; all rows have the same columns."""

    @property
    def comparison(self) -> str:
        """Whether the experiment compares its models with bedside scores."""
        if self.bedside_scores:
            names = ", ".join(self.bedside_scores)
            return f"Scores of everyday care among the models: {names}."
        return (
            "No score of everyday care (SOFA, qSOFA, NEWS2) is among the models: the report does "
            "not show what the models add to it."
        )

    @property
    def overlap_summary(self) -> str:
        """Which inputs are a part of the outcome's definition, in a sentence."""
        if not self.overlap:
            return ""
        parts = "; ".join(f"{entry.part}: {', '.join(entry.inputs)}" for entry in self.overlap)
        return (
            "Inputs that are also a part of how the outcome is defined, and may tell that it is "
            f"being looked for or has begun: {parts}."
        )

    def save(self, folder: Path) -> None:
        """Write the facts as JSON into an existing folder."""
        write_json(folder / STUDY_FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The facts of :meth:`save`; None where an earlier release did not write them."""
        file = folder / STUDY_FILE
        return validate_recorded(cls, read_json(file), str(file)) if file.is_file() else None
