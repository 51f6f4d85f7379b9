"""What is given: the ward's doses, and the antibiotics that follow an onset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.sources.base import StayBatch
from flowsheet.mimic_export.devices import cultures, ventilated
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.mimic_export.patients import Patients, episodes

ITEMS: dict[str, tuple[int, int | None]] = {
    "norepinephrine": (221906, 30120),
    "propofol": (222168, 30131),
    "furosemide": (221794, 30123),
    "insulin": (223258, 30045),
    "vancomycin": (225798, None),
    "piperacillin_tazobactam": (225893, None),
    "ceftriaxone": (225855, None),
}
"""MetaVision's item and CareVue's; hydrocortisone, and CareVue's antibiotics, are told by PRESCRIPTIONS alone."""

NAMES = {
    "norepinephrine": "Norepinephrine",
    "propofol": "Propofol",
    "furosemide": "Furosemide",
    "insulin": "Insulin",
    "vancomycin": "Vancomycin HCl",
    "piperacillin_tazobactam": "Piperacillin-Tazobactam Na",
    "ceftriaxone": "CeftriaXONE",
    "hydrocortisone": "Hydrocortisone Na Succ.",
}
"""As PRESCRIPTIONS names them."""

COURSE = {
    "vancomycin": (12, 1000.0),
    "piperacillin_tazobactam": (8, 4500.0),
    "ceftriaxone": (24, 2000.0),
}
"""Hours between the doses of a course, and the dose in mg."""

OTHER_DRUGS = (
    *(
        "Docusate Sodium",
        "Acetaminophen",
        "Senna",
        "Bisacodyl",
        "Ondansetron",
        "Aspirin",
        "Simvastatin",
        "Lisinopril",
    ),
    *(
        "Multivitamins",
        "Thiamine",
        "FoLIC Acid",
        "Lactulose",
        "Atorvastatin",
        "Gabapentin",
        "Levothyroxine Sodium",
    ),
)
OTHER_ORDERS, OTHER_FLUIDS, OTHER_INPUTS = 12, 84, 28
"""Per day: prescriptions, CareVue's inputs and MetaVision's inputs of things that are no drug of the ward."""
FLUIDS_CV = (30018, 30021, 30013, 30056, 30059, 30005, 30008, 30101, 30160, 44184)
FLUIDS_MV = (225158, 225828, 220949, 226452, 226453, 225799, 225943, 226361)


@dataclass(frozen=True)
class Orders:
    """Rows of the four tables, by name, with the columns that are filled; and what a cohort should find."""

    tables: dict[str, pl.DataFrame]
    truth: pl.DataFrame  # icustay_id, drug, start, end, amount, rate, table
    rewritten: int


def orders(
    batch: StayBatch, who: Patients, options: ExportOptions, rng: np.random.Generator
) -> Orders:
    """Inputs, prescriptions and cultures of some stays."""
    ids = _ids(who)
    sick = episodes(batch, who.stays)
    given = pl.concat([_wards(batch, who), _courses(sick, who, rng)]).join(
        ids, on="stay", maintain_order="left"
    )
    items = pl.DataFrame(
        [(d, m, c) for d, (m, c) in ITEMS.items()], schema=["drug", "_mv", "_cv"], orient="row"
    ).cast({"_mv": pl.Int64, "_cv": pl.Int64})
    given = given.join(items, on="drug", how="left", maintain_order="left")
    new = _metavision(given.filter("metavision").drop_nulls("_mv"))
    old = _carevue(given.filter(~pl.col("metavision")).drop_nulls("_cv"))
    again = _rewritten(new, options, rng)
    tables = {
        "INPUTEVENTS_MV": pl.concat(
            [new, again, _other_inputs(who, ids, True, rng)], how="diagonal_relaxed"
        ),
        "INPUTEVENTS_CV": pl.concat(
            [old, _other_inputs(who, ids, False, rng)], how="diagonal_relaxed"
        ),
        "PRESCRIPTIONS": pl.concat(
            [_prescribed(given), _other_orders(who, ids, rng)], how="diagonal_relaxed"
        ),
        "MICROBIOLOGYEVENTS": cultures(sick, who, ids, rng),
        "PROCEDUREEVENTS_MV": ventilated(sick, ids),
    }
    return Orders(tables, _truth(new, old), again.height)


def _ids(who: Patients) -> pl.DataFrame:
    return who.stays.select(
        stay=pl.int_range(pl.len()).cast(pl.Int64),
        SUBJECT_ID="raw_subject",
        HADM_ID="hadm_id",
        ICUSTAY_ID="icustay_id",
        metavision=pl.col("dbsource") == "metavision",
        leaves=pl.col("outtime"),
        weight=pl.col("weight_kg"),
    )


def _wards(batch: StayBatch, who: Patients) -> pl.DataFrame:
    """(stay, drug, start, end, amount, rate an hour, course): the ward's own doses on the raw calendar."""
    here = who.stays.select(
        "stay_id", "admitted_at", "_start", stay=pl.int_range(pl.len()).cast(pl.Int64)
    )
    moved = pl.col("_start") - pl.col("admitted_at")
    runs = pl.col("end") > pl.col("start")
    hours = (pl.col("end") - pl.col("start")).dt.total_minutes() / 60
    return batch.treatments.join(here, on="stay_id", maintain_order="left").select(
        "stay",
        "drug",
        start=pl.col("start") + moved,
        end=pl.col("end") + moved,
        amount=pl.when(runs).then(pl.col("dose") * hours).otherwise("dose"),
        rate=pl.when(runs).then("dose"),
        course=pl.lit(value=False),
    )


def _courses(sick: pl.DataFrame, who: Patients, rng: np.random.Generator) -> pl.DataFrame:
    """Antibiotics from soon after each onset until three days after its end, two drugs by turns."""
    n = sick.height
    wait = pl.Series(rng.integers(5, 300, n).astype("timedelta64[m]").astype("timedelta64[us]"))
    drugs = np.array(list(COURSE))
    days = (pl.col("_to") - pl.col("_from")) // 24 + 4
    begun = sick.select(
        pl.col("stay").cast(pl.Int64),
        start=(pl.col("onset") + wait).dt.truncate("1m"),
        last=pl.col("onset") + pl.duration(days=days),
        drug=pl.Series(drugs[rng.integers(0, len(drugs), n)]),
    )
    rules = pl.DataFrame(
        [(d, *v) for d, v in COURSE.items()], schema=["drug", "every", "amount"], orient="row"
    )
    leaves = who.stays.select("outtime", stay=pl.int_range(pl.len()).cast(pl.Int64))
    doses = begun.join(rules, on="drug", maintain_order="left").join(
        leaves, on="stay", maintain_order="left"
    )
    doses = doses.with_columns(last=pl.min_horizontal("last", "outtime")).filter(
        pl.col("start") < pl.col("last")
    )
    number = (pl.col("last") - pl.col("start")).dt.total_minutes() // (60 * pl.col("every")) + 1
    doses = doses.with_columns(nth=pl.int_ranges(0, number)).explode("nth", empty_as_null=False)
    start = pl.col("start") + pl.duration(hours=pl.col("nth") * pl.col("every"))
    return doses.select(
        "stay",
        "drug",
        start=start,
        end=start,
        amount="amount",
        rate=pl.lit(None, pl.Float64),
        course=pl.lit(value=True),
    )


def _metavision(given: pl.DataFrame) -> pl.DataFrame:
    runs = pl.col("rate").is_not_null()
    abx = pl.col("drug").is_in(list(COURSE))
    order = pl.int_range(pl.len()) + pl.col("ICUSTAY_ID") * 100
    return given.select(
        *("drug", "SUBJECT_ID", "HADM_ID", "ICUSTAY_ID"),
        STARTTIME="start",
        ENDTIME=pl.when(runs).then("end").otherwise(pl.col("start") + pl.duration(minutes=1)),
        ITEMID="_mv",
        # a catalogue dose per kg is an amount of the whole body in mg
        AMOUNT=pl.when(abx)
        .then(1.0)
        .when(runs)
        .then(pl.col("amount") * pl.col("weight") / 1000)
        .otherwise("amount"),
        AMOUNTUOM=pl.when(abx)
        .then(pl.lit("dose"))
        .when(pl.col("drug") == "insulin")
        .then(pl.lit("units"))
        .otherwise(pl.lit("mg")),
        RATE=pl.col("rate") / 60,
        RATEUOM=pl.when(runs).then(pl.lit("mcg/kg/min")),
        STORETIME=pl.col("start") + pl.duration(minutes=12),
        CGID=pl.lit(17500),
        ORDERID=order,
        LINKORDERID=order,
        ORDERCATEGORYNAME=pl.when(abx)
        .then(pl.lit("08-Antibiotics (IV)"))
        .otherwise(pl.lit("01-Drips")),
        ORDERCOMPONENTTYPEDESCRIPTION=pl.lit("Main order parameter"),
        ORDERCATEGORYDESCRIPTION=pl.when(runs)
        .then(pl.lit("Continuous Med"))
        .otherwise(pl.lit("Drug Push")),
        PATIENTWEIGHT="weight",
        TOTALAMOUNT=pl.lit(250),
        TOTALAMOUNTUOM=pl.lit("ml"),
        ISOPENBAG=pl.lit(0),
        CONTINUEINNEXTDEPT=pl.lit(0),
        CANCELREASON=pl.lit(0),
        STATUSDESCRIPTION=pl.lit("FinishedRunning"),
        ORIGINALAMOUNT="amount",
        ORIGINALRATE="rate",
    )


def _rewritten(new: pl.DataFrame, options: ExportOptions, rng: np.random.Generator) -> pl.DataFrame:
    """Entries that were withdrawn: at a tenfold rate, and marked."""
    chosen = new.filter(
        pl.Series(rng.random(new.height) < options.rewritten) & pl.col("RATE").is_not_null()
    )
    return chosen.with_columns(
        pl.col("RATE", "AMOUNT") * 10, CANCELREASON=pl.lit(1), STATUSDESCRIPTION=pl.lit("Rewritten")
    )


def _carevue(given: pl.DataFrame) -> pl.DataFrame:
    """CareVue charts an infusion as its rate by the hour, and what is given at once as an amount."""
    hours = (pl.col("end") - pl.col("start")).dt.total_minutes() // 60 + 1
    rows = given.with_columns(nth=pl.int_ranges(0, hours)).explode("nth", empty_as_null=False)
    runs = pl.col("rate").is_not_null()
    order = pl.int_range(pl.len()) + pl.col("ICUSTAY_ID") * 100
    charted = pl.col("start") + pl.duration(hours="nth")
    return rows.select(
        *("drug", "start", "end", "SUBJECT_ID", "HADM_ID", "ICUSTAY_ID"),
        CHARTTIME=charted,
        ITEMID="_cv",
        AMOUNT=pl.when(runs).then(None).otherwise("amount"),
        AMOUNTUOM=pl.when(pl.col("drug") == "insulin").then(pl.lit("U")).otherwise(pl.lit("mg")),
        RATE=pl.col("rate") / 60,
        RATEUOM=pl.when(runs).then(pl.lit("mcgkgmin")),
        STORETIME=charted + pl.duration(minutes=20),
        CGID=pl.lit(15500),
        ORDERID=order,
        LINKORDERID=order,
        ORIGINALROUTE=pl.lit("Intravenous Push"),
    )


def _other_inputs(
    who: Patients, ids: pl.DataFrame, metavision: bool, rng: np.random.Generator
) -> pl.DataFrame:
    """Fluids, feeds and the rest, by the clock."""
    per_day = OTHER_INPUTS if metavision else OTHER_FLUIDS
    days = np.flatnonzero(who.metavision[who.day_stay] == metavision)
    minute = np.sort(rng.integers(0, 24, (len(days), per_day)), axis=1) * 60
    time = (who.day_start[days][:, None] + minute.astype("timedelta64[m]")).ravel()
    n = len(time)
    amount = rng.integers(1, 41, n) * 25.0
    rows = pl.DataFrame(
        {
            "stay": np.repeat(who.day_stay[days], per_day),
            "time": time,
            "ITEMID": np.array(FLUIDS_MV if metavision else FLUIDS_CV)[rng.integers(0, 8, n)],
            "AMOUNT": amount,
        },
        schema_overrides={"stay": pl.Int64},
    ).join(ids, on="stay", maintain_order="left")
    order = pl.int_range(pl.len()) + 1_000_000
    stored = pl.col("time") + pl.duration(minutes=25)
    shared = [
        pl.lit("ml").alias("AMOUNTUOM"),
        stored.alias("STORETIME"),
        pl.lit(16000).alias("CGID"),
    ]
    if not metavision:
        return rows.select(
            *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "ITEMID", "AMOUNT"),
            *shared,
            CHARTTIME="time",
            ORDERID=order,
            LINKORDERID=order,
            ORIGINALROUTE=pl.lit("Intravenous Infusion"),
        )
    return rows.select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "ITEMID", "AMOUNT"), *shared, STARTTIME="time",
        ENDTIME=pl.col("time") + pl.duration(minutes=59), ORDERID=order, LINKORDERID=order,
        ORDERCATEGORYNAME=pl.lit("02-Fluids (Crystalloids)"), RATE="AMOUNT", RATEUOM=pl.lit("mL/hour"),
        ORDERCOMPONENTTYPEDESCRIPTION=pl.lit("Main order parameter"), PATIENTWEIGHT="weight",
        ORDERCATEGORYDESCRIPTION=pl.lit("Continuous IV"), TOTALAMOUNT="AMOUNT", TOTALAMOUNTUOM=pl.lit("ml"),
        ISOPENBAG=pl.lit(0), CONTINUEINNEXTDEPT=pl.lit(0), CANCELREASON=pl.lit(0),
        STATUSDESCRIPTION=pl.lit("FinishedRunning"), ORIGINALAMOUNT="AMOUNT", ORIGINALRATE="AMOUNT",
    )  # fmt: skip


def _prescribed(given: pl.DataFrame) -> pl.DataFrame:
    """Orders bear dates only; a course is one order from its first day to its last."""
    day = pl.col("start").dt.truncate("1d")
    single = given.filter(~pl.col("course")).select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "drug", "amount"), STARTDATE=day, ENDDATE=day
    )
    keys = ["SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "drug", "amount"]
    course = (
        given.filter("course")
        .group_by(keys, maintain_order=True)
        .agg(STARTDATE=day.min(), ENDDATE=day.max())
    )
    drug = pl.col("drug").replace_strict(NAMES)
    return pl.concat([single, course]).select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "STARTDATE", "ENDDATE"),
        DRUG_TYPE=pl.lit("MAIN"),
        DRUG=drug,
        PROD_STRENGTH=pl.lit("1 Vial"),
        DOSE_VAL_RX=pl.col("amount"),
        DOSE_UNIT_RX=pl.when(pl.col("drug") == "insulin")
        .then(pl.lit("UNIT"))
        .otherwise(pl.lit("mg")),
        FORM_VAL_DISP=pl.lit(1),
        FORM_UNIT_DISP=pl.lit("VIAL"),
        ROUTE=pl.when(pl.col("drug") == "insulin").then(pl.lit("SC")).otherwise(pl.lit("IV")),
    )


def _other_orders(who: Patients, ids: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    n = len(who.day_stay) * OTHER_ORDERS
    day = np.repeat(who.day_start.astype("datetime64[D]").astype("datetime64[us]"), OTHER_ORDERS)
    lasts = rng.integers(0, 5, n).astype("timedelta64[D]")
    rows = pl.DataFrame(
        {
            "stay": np.repeat(who.day_stay, OTHER_ORDERS),
            "STARTDATE": day,
            "ENDDATE": day + lasts,
            "DRUG": np.array(OTHER_DRUGS)[rng.integers(0, len(OTHER_DRUGS), n)],
            "DOSE_VAL_RX": rng.integers(1, 20, n) * 5,
        },
        schema_overrides={"stay": pl.Int64},
    )
    return rows.join(ids, on="stay", maintain_order="left").select(
        *("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "STARTDATE", "ENDDATE", "DRUG", "DOSE_VAL_RX"),
        DRUG_TYPE=pl.lit("MAIN"), DRUG_NAME_POE="DRUG", DRUG_NAME_GENERIC="DRUG", FORMULARY_DRUG_CD=pl.lit("XXXX5"),
        GSN=pl.lit("009156"), NDC=pl.lit("00004200278"), PROD_STRENGTH=pl.lit("5 mg Tablet"), DOSE_UNIT_RX=pl.lit("mg"),
        FORM_VAL_DISP=pl.lit(1), FORM_UNIT_DISP=pl.lit("TAB"), ROUTE=pl.lit("PO"),
    )  # fmt: skip


def _truth(new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
    shared = ["icustay_id", "drug", "start", "end", "amount", "rate", "table"]
    first = new.select(
        "drug", icustay_id="ICUSTAY_ID", start="STARTTIME", end="ENDTIME", amount="AMOUNT", rate="RATE",
        table=pl.lit("INPUTEVENTS_MV"),
    )  # fmt: skip
    second = old.select(
        "drug", icustay_id="ICUSTAY_ID", start="CHARTTIME", end="CHARTTIME", amount="AMOUNT", rate="RATE",
        table=pl.lit("INPUTEVENTS_CV"),
    )  # fmt: skip
    return pl.concat([first.select(shared), second.select(shared)])
