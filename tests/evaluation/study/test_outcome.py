"""The outcome in words, and the inputs that are a part of its definition."""

import string

import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import SourceEntry
from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.evaluation.study.outcome import describe_outcome, find_overlap, load_definitions
from flowsheet.windows.sequences import Feature


def sepsis3_source(**changes):
    options = Sepsis3Options().model_dump(mode="json") | changes
    return SourceEntry(name="mimic3", options={"sepsis3": options})


def test_the_definition_names_its_windows_and_its_criterion():
    text = " ".join(describe_outcome(sepsis3_source()).sentences)
    assert "culture by an antimicrobial within 72 h" in text
    assert "from 48 h before to 24 h after suspicion" in text
    assert "has risen by 2 points" in text
    level = " ".join(describe_outcome(sepsis3_source(criterion="level", points=3)).sentences)
    assert "is at least 3 points" in level
    assert "has risen" not in level


def test_single_doses_and_conventions_have_words():
    single = " ".join(describe_outcome(sepsis3_source(confirm_after_hours=0.0)).sentences)
    assert "A single dose counts." in single
    assert "0 h to" not in single
    options = Sepsis3Options(convention="ricu").model_dump(mode="json")
    outcome = describe_outcome(SourceEntry(name="mimic3", options={"sepsis3": options}))
    assert "follow the code of eth-mds/ricu" in " ".join(outcome.sentences)
    assert ("convention", "flowsheet", "ricu") in outcome.changed_options


def test_only_options_that_differ_from_their_defaults_are_listed():
    assert describe_outcome(sepsis3_source()).changed_options == ()
    changed = describe_outcome(sepsis3_source(criterion="level", culture_first_hours=48.0))
    assert set(changed.changed_options) == {
        ("criterion", "rise", "level"),
        ("culture_first_hours", "72", "48"),
    }


def test_options_that_an_older_manifest_lacks_have_their_defaults():
    source = SourceEntry(name="mimic3", options={"sepsis3": {"points": 4}})
    outcome = describe_outcome(source)
    assert any("by 4 points" in sentence for sentence in outcome.sentences)
    assert outcome.changed_options == (("points", "2", "4"),)


@pytest.mark.parametrize("source", ["physionet2019", "yaib", "simulated", "extract", "a_plugin"])
def test_every_source_has_a_definition(source):
    outcome = describe_outcome(SourceEntry(name=source))
    assert outcome.title
    assert not any("{" in sentence for sentence in outcome.sentences)


def test_a_source_that_states_its_episodes_leaves_the_definition_to_the_authors():
    outcome = describe_outcome(SourceEntry(name="extract"))
    assert "is for the authors to say" in outcome.sentences[0]


def test_inputs_of_the_definition_are_named_by_part():
    features = [
        Feature("hr", "value", "hr"),
        Feature("crea", "value", "crea"),
        Feature("crea_missing", "missing", "crea"),
        Feature("norepinephrine_on", "treatment", "norepinephrine"),
        Feature("vancomycin_on", "treatment", "vancomycin"),
        Feature("propofol_on", "treatment", "propofol"),
    ]
    overlap = {entry.part: entry.inputs for entry in find_overlap(sepsis3_source(), features)}
    assert overlap == {
        "suspected infection": ("vancomycin",),
        "SOFA: cardiovascular": ("norepinephrine",),
        "SOFA: renal": ("creatinine",),
    }


def test_the_inputs_are_those_of_the_score_of_the_definition():
    features = [Feature("k", "value", "k"), Feature("milrinone_on", "treatment", "milrinone")]
    assert find_overlap(sepsis3_source(), features) == ()
    overlap = {
        entry.part: entry.inputs for entry in find_overlap(sepsis3_source(score="sofa2"), features)
    }
    assert overlap == {"SOFA-2: cardiovascular": ("milrinone",), "SOFA-2: kidneys": ("potassium",)}
    text = " ".join(describe_outcome(sepsis3_source(score="sofa2")).sentences)
    assert "by SOFA-2" in text


def test_many_drugs_of_a_group_are_counted():
    antibiotics = [name for name, drug in catalogue.drugs().items() if drug.group == "antibiotic"]
    features = [Feature(f"{name}_on", "treatment", name) for name in antibiotics]
    (entry,) = find_overlap(sepsis3_source(), features)
    assert entry.inputs == (f"{len(antibiotics)} drugs of the group antibiotic",)


def test_the_simulated_state_has_no_definition_that_inputs_overlap_with():
    features = [Feature("crea", "value", "crea")]
    assert find_overlap(SourceEntry(name="simulated"), features) == ()


def test_definitions_use_only_options_and_drugs_that_exist():
    options = set(Sepsis3Options.model_fields)
    sepsis3 = load_definitions()["sepsis3"]
    for sentence in sepsis3["sentences"]:
        texts = [sentence] if isinstance(sentence, str) else list(sentence.values())
        used = {field for text in texts for _, field, _, _ in string.Formatter().parse(text)}
        assert used - {None} <= options
        assert isinstance(sentence, str) or sentence["option"] in options
    groups = {drug.group for drug in catalogue.drugs().values()}
    for part in (*sepsis3["sofa"], *sepsis3["sofa2"]):
        assert set(part.get("drugs", ())) <= set(catalogue.drugs())
        assert set(part.get("groups", ())) <= groups
        assert set(part.get("variables", ())) <= set(catalogue.variables())


def test_the_adult_sepsis_event_has_its_own_words():
    options = Sepsis3Options(definition="adult_sepsis_event").model_dump(mode="json")
    outcome = describe_outcome(SourceEntry(name="mimic3", options={"sepsis3": options}))
    assert outcome.title.startswith("CDC Adult Sepsis Event")
    assert "SOFA" not in " ".join(outcome.sentences)
    assert "Lactate of at least 2 mmol/L" in " ".join(outcome.sentences)
    assert ("definition", "sepsis3", "adult_sepsis_event") in outcome.changed_options


def test_a_computed_response_has_its_own_definition():
    source = SourceEntry(name="mimic3", options={"sepsis3": {}})
    outcome = describe_outcome(source, "aki", {"aki": {"stage": 2}})
    assert "KDIGO" in outcome.title
    assert "Stage 2 or higher" in outcome.sentences[0]
    assert outcome.changed_options == (("stage", "1", "2"),)
    assert not any("epsis" in sentence for sentence in outcome.sentences)


def test_a_response_that_the_source_gives_is_recorded():
    outcome = describe_outcome(SourceEntry(name="yaib"), "death")
    assert "states the episodes itself" in outcome.sentences[0]
