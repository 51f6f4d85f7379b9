"""Answers about the study's purpose and methods."""

from __future__ import annotations

from flowsheet.config import Protocol
from flowsheet.evaluation.leaderboard import describe_intervals
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.data import describe_protocol, describe_task
from flowsheet.evaluation.subsets import ALL
from flowsheet.evaluation.summaries import join_names
from flowsheet.lifecycle.checklist.answers import register
from flowsheet.lifecycle.checklist.record import StudyRecord
from flowsheet.lifecycle.model_card.template import markdown_table
from flowsheet.models.base import MODELS


@register
def describe_title(record: StudyRecord) -> str:
    """Experiment, models and source."""
    models = join_names(sorted(record.evidence.with_titles().models))
    return f"Development and evaluation of {models} on `{record.manifest.source.name}`."


@register
def quote_headline(record: StudyRecord) -> str:
    """The headline of the evidence."""
    return record.evidence.headline


@register
def quote_description(record: StudyRecord) -> str:
    """The experiment's own description."""
    return str(record.config.get("description", "")).strip()


@register
def describe_question(record: StudyRecord) -> str:
    """What is predicted, when, and how far ahead."""
    return describe_task(record.task)


@register
def describe_source(record: StudyRecord) -> str:
    """Source, size and fingerprint of the extract."""
    source, counts = record.manifest.source, record.manifest.counts
    return (
        f"Source `{source.name}` (version {source.version} of its reader): "
        f"{counts['subjects']:,} subjects, {counts['stays']:,} stays, {counts['events']:,} events "
        f"and {counts['treatments']:,} treatments. Training and evaluation use the same source. "
        f"Fingerprint of the raw records: `{source.input}`."
    )


@register
def describe_sites(record: StudyRecord) -> str:
    """Stays by site and care unit."""
    entries = record.manifest.prevalence_of(record.task.response)
    entries = tuple(entry for entry in entries if entry.by in {"site", "unit"})
    rows = [[f"{entry.by}: {entry.group}", f"{entry.stays:,}"] for entry in entries]
    return markdown_table(["", "stays"], rows) if rows else ""


@register
def describe_eligibility(record: StudyRecord) -> str:
    """The steps of the cohort selection."""
    steps = [step for step, _ in record.manifest.attrition]
    return f"Stays were selected in these steps: {'; '.join(steps)}." if steps else ""


@register
def describe_treatments(record: StudyRecord) -> str:
    """Drugs that are recorded, and which of them are inputs."""
    drugs = record.manifest.drugs
    if not drugs:
        return "The records have no treatments."
    choice = record.features.treatments
    selected = choice if isinstance(choice, str) else ", ".join(choice)
    return f"{len(drugs):,} drugs are recorded ({', '.join(drugs)}); as inputs: {selected}."


@register
def describe_preparation(record: StudyRecord) -> str:
    """Checks of the data and what they took out."""
    manifest = record.manifest
    rows = [[f"quarantined, {q.table}: {q.rule}", f"{q.rows:,}"] for q in manifest.quarantined]
    rows += [[f"excluded: {reason}", f"{n:,}"] for reason, n in manifest.exclusions]
    text = (
        "Every row was checked against the contract of the extract: types, keys, times within the "
        "stay, units and plausible ranges, alike in all groups of patients."
    )
    return f"{text}\n\n{markdown_table(['', 'rows'], rows)}" if rows else f"{text} No row failed."


@register
def describe_outcome(record: StudyRecord) -> str:
    """The definition in words, with the options that differ from their defaults."""
    outcome = record.study.outcome
    text = f"{outcome.title}. {' '.join(outcome.sentences)}"
    if not outcome.changed_options:
        return text
    head = ["option that differs from its default", "default", "here"]
    return f"{text}\n\n{markdown_table(head, outcome.changed_options)}"


@register
def describe_agreement(record: StudyRecord) -> str:
    """How definitions of the outcome agree on the cohort."""
    rows = record.study.agreement
    if not rows:
        return ""
    table = markdown_table(list(rows[0]), [list(row.values()) for row in rows])
    return f"Agreement of definitions on the same stays:\n\n{table}"


@register
def describe_assessment(record: StudyRecord) -> str:
    """Who assessed the outcome."""
    if record.study.outcome.is_computed:
        return "The outcome is computed from the records by fixed rules; nobody assessed it."
    return ""


@register
def describe_overlap(record: StudyRecord) -> str:
    """Inputs that are a part of the outcome's definition."""
    return record.study.overlap_summary


@register
def describe_choice_of_predictors(record: StudyRecord) -> str:
    """Which of the recorded variables and drugs are candidates."""
    choice = record.features.variables
    variables = "all variables of the extract" if choice == "all" else ", ".join(choice)
    return (
        f"Candidates were {variables}. Predictors were not selected by their relation to outcome."
    )


@register
def describe_predictors(record: StudyRecord) -> str:
    """Variables, statics and the time at which they are known."""
    features, manifest = record.features, record.manifest
    return (
        f"{len(manifest.variables):,} variables ({', '.join(manifest.variables)}); of each stay "
        f"{', '.join(features.statics) or 'nothing'}. Of each time step and variable: "
        f"{', '.join(features.aggregations)}. A prediction uses only values that were in the "
        "record at its time. Units and plausible ranges are those of Flowsheet's catalogue."
    )


@register
def describe_sample_size(record: StudyRecord) -> str:
    """Events and input columns."""
    size = record.study.sample_size
    return size.summary if size else ""


@register
def describe_missing_data(record: StudyRecord) -> str:
    """How missing values are handled."""
    return " ".join(record.study.missing_data)


@register
def describe_partition(record: StudyRecord) -> str:
    """How the subjects were divided."""
    return (
        f"{describe_protocol(record.evaluation)} A subject is in one part only, with all stays. "
        f"Seed {record.config['seed']}."
    )


@register
def describe_scaling(record: StudyRecord) -> str:
    """What happens to inputs before they reach a model."""
    return (
        "Columns are clipped to quantiles of the training rows, on a log scale where they are "
        "skewed, and standardised, for models that take scaled inputs; categories have one column "
        "each. Nothing is fitted on held-out subjects."
    )


@register
def describe_models(record: StudyRecord) -> str:
    """The kinds of models and their inputs."""
    rows = []
    for name in record.evidence.models:
        config = record.config["models"].get(name)
        if config:
            capabilities = MODELS.get(config["kind"]).capabilities
            family, inputs = capabilities.family.value, capabilities.input_description
            rows.append([record.evidence.titles[name], name, config["kind"], family, inputs])
    head = ["model", "name", "kind", "family", "inputs"]
    return markdown_table(head, rows) if rows else ""


@register
def describe_tuning(record: StudyRecord) -> str:
    """How parameters were chosen."""
    tuning = record.config["tuning"]
    if tuning["trials"] == 1:
        return "Parameters were not tuned: models have their defaults or configured values."
    return (
        f"Parameters were tuned in {tuning['trials']} trials for each model, by "
        f"{get_metric(tuning['metric']).label} on the validation subjects; the spaces are in the "
        "recorded configuration."
    )


@register
def describe_clusters(record: StudyRecord) -> str:
    """How differences between sites were examined."""
    if record.evaluation.protocol is Protocol.site:
        return "Whole sites were held out, so that each is predicted by models of the others."
    if _has_groups(record, "site"):
        return "Performance was estimated in each site."
    return "The records are of one site, or do not name it: differences were not examined."


@register
def describe_measures(record: StudyRecord) -> str:
    """All metrics of the leaderboard."""
    names = record.evidence.leaderboard["metric"].unique(maintain_order=True).to_list()
    labels = ", ".join(get_metric(name).label for name in names)
    return (
        f"{labels}. {describe_intervals(record.evidence)} The report has ROC, precision-recall, "
        "calibration and decision curves."
    )


@register
def describe_updating(record: StudyRecord) -> str:
    """Whether models were changed after their evaluation."""
    return "No model was recalibrated or updated after its evaluation."


@register
def describe_predictions(record: StudyRecord) -> str:
    """How the evaluated predictions were calculated."""
    return (
        "The trained models themselves predicted the held-out stays, with the code that also "
        "serves them; every prediction is kept with the run's artifacts."
    )


@register
def describe_imbalance(record: StudyRecord) -> str:
    """The prevalence, and what was done about it."""
    row = record.evidence.leaderboard.filter(subset=ALL).row(0, named=True)
    share = row["events"] / max(row["rows"], 1)
    return (
        f"{share:.1%} of the evaluated predictions have the event. Rows are not resampled, so "
        "probabilities need no correction for it; weights of classes, where a model has them, are "
        "among its parameters."
    )


@register
def describe_fairness(record: StudyRecord) -> str:
    """The groups in which performance was estimated."""
    subsets = [name for name in record.evidence.about["subsets"] if ": " in name]
    groupings = list(dict.fromkeys(name.split(": ")[0] for name in subsets))
    if not groupings:
        return "Performance in groups of patients was not estimated."
    return f"Performance was estimated in groups by {join_names(groupings)} (item 23a)."


@register
def describe_output(record: StudyRecord) -> str:
    """Probability, thresholds and what is promised of the alerts."""
    thresholds = record.evidence.about["thresholds"]
    text = "A probability for each time step of a stay."
    if not thresholds:
        return f"{text} Thresholds for alerts are chosen on the validation subjects of each fold."
    values = ", ".join(f"{name} {value:.4f}" for name, value in thresholds.items())
    promises = [
        f"{name}: {judged.promise.sentence}"
        for name, judged in record.evidence.alerts.items()
        if judged.promise
    ]
    chosen = f"Thresholds for alerts, chosen on the validation subjects: {values}."
    return " ".join([text, chosen, *promises])


@register
def describe_training_and_evaluation(record: StudyRecord) -> str:
    """How the held-out data differ from the training data."""
    has_parts = "Test" in record.study.characteristics.columns
    table = " Item 20b has their characteristics side by side." if has_parts else ""
    return (
        "Setting, eligibility, outcome and predictors are the same for training and evaluation."
        f"{table}"
    )


def _has_groups(record: StudyRecord, grouping: str) -> bool:
    return any(name.startswith(f"{grouping}: ") for name in record.evidence.about["subsets"])
