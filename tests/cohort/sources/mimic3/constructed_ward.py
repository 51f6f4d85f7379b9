"""Patients whose raw rows are built fact by fact, for stays that can be judged by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.cohort.mimic3_folder import RawTables, add_rows

ADMITTED = datetime(2150, 3, 1, 10)
HEART_RATE, MEAN_PRESSURE, FOLEY, CREATININE = 220045, 220052, 226559, 50912
VANCOMYCIN, NOREPINEPHRINE = 225798, 221906


def text(hours: float) -> str:
    return str(ADMITTED + timedelta(hours=hours))


@dataclass
class Patient:
    """One patient with one stay, whose facts are given in hours after admission."""

    tables: RawTables
    number: int
    system: str = "metavision"

    @property
    def ids(self) -> dict[str, Any]:
        return {"subject_id": self.number, "hadm_id": self.number, "icustay_id": self.number}

    def admit(self, hours: float = 120, died: float | None = None) -> Patient:
        stay = {"dbsource": self.system, "first_careunit": "MICU"}
        times = {"intime": text(0), "outtime": text(hours)}
        admission = {"admittime": text(-2), "dischtime": text(hours + 5)}
        death = {} if died is None else {"deathtime": text(died), "hospital_expire_flag": 1}
        person = {"subject_id": self.number, "gender": "F", "dob": "2100-01-01 00:00:00"}
        add_rows(self.tables, "icustays", self.ids | stay | times)
        add_rows(self.tables, "admissions", self.ids_of("admissions") | admission | death)
        add_rows(self.tables, "patients", person)
        for hour in range(0, int(min(hours, died or hours)), 4):
            self.chart(hour + 0.5, HEART_RATE if self.system == "metavision" else 211, 80)
        return self

    def ids_of(self, table: str) -> dict[str, Any]:
        return {k: v for k, v in self.ids.items() if k in self.tables[table].columns}

    def chart(self, hour: float, item: int, value: object, delay: float = 0.1) -> Patient:
        number = {"valuenum": value} if isinstance(value, int | float) else {}
        times = {"charttime": text(hour), "storetime": text(hour + delay)}
        add_rows(
            self.tables, "chartevents", self.ids | times | {"itemid": item, "value": value} | number
        )
        return self

    def result(self, hour: float, item: int, value: object) -> Patient:
        number = {"valuenum": value} if isinstance(value, int | float) else {}
        row = self.ids_of("labevents") | {"itemid": item, "charttime": text(hour), "value": value}
        add_rows(self.tables, "labevents", row | number)
        return self

    def output(self, hour: float, item: int, value: float, delay: float = 0.1) -> Patient:
        times = {"charttime": text(hour), "storetime": text(hour + delay)}
        add_rows(self.tables, "outputevents", self.ids | times | {"itemid": item, "value": value})
        return self

    def give(self, hour: float, item: int = VANCOMYCIN, **row: object) -> Patient:
        end = hour + float(str(row.pop("hours", 1)))
        times = {"starttime": text(hour), "endtime": text(end), "storetime": text(hour + 0.1)}
        drug = {"itemid": item, "amount": 1, "amountuom": "dose"}
        category = {"ordercategorydescription": "Drug Push", "statusdescription": "FinishedRunning"}
        add_rows(self.tables, "inputevents_mv", self.ids | times | drug | category | row)
        return self

    def order(self, day: str, drug: str = "Vancomycin") -> Patient:
        dates = {"startdate": f"{day} 00:00:00", "enddate": f"{day} 00:00:00"}
        row = self.ids | dates | {"drug_type": "MAIN", "drug": drug, "route": "IV"}
        add_rows(self.tables, "prescriptions", row)
        return self

    def culture(
        self, hour: float, specimen: str = "BLOOD CULTURE", *, timed: bool = True
    ) -> Patient:
        day = {"chartdate": text(hour)[:10] + " 00:00:00", "spec_type_desc": specimen}
        time = {"charttime": text(hour)} if timed else {}
        add_rows(self.tables, "microbiologyevents", self.ids_of("microbiologyevents") | day | time)
        return self

    def infect(self, first: float = 2, last: float = 50) -> Patient:
        """A blood culture, and vancomycin every 12 hours."""
        self.culture(first - 1)
        hour = first
        while hour <= last:
            self.give(hour)
            hour += 12
        return self


def septic(*facts: Callable[[Patient], object]) -> Callable[[Patient], None]:
    def build(patient: Patient) -> None:
        patient.admit().infect()
        for fact in facts:
            fact(patient)

    return build


def norepinephrine(patient: Patient, start: float = 0.1, hours: float = 8) -> Patient:
    infusion = {"rate": 0.5, "rateuom": "mcg/kg/min", "amountuom": "mg", "patientweight": 80}
    category = {"ordercategorydescription": "Continuous Med"}
    return patient.give(start, NOREPINEPHRINE, hours=hours, **infusion, **category)


def _each_hour(first: int, last: int, item: int, value: object) -> Callable[[Patient], None]:
    def build(patient: Patient) -> None:
        for hour in range(first, last):
            patient.chart(hour, item, value)

    return build


def _urine_every(step: float, value: float, last: float = 60) -> Callable[[Patient], None]:
    def build(patient: Patient) -> None:
        patient.admit().result(1, CREATININE, 1.0).result(30, CREATININE, 1.0)
        hour = step
        while hour <= last:
            patient.output(hour, FOLEY, value)
            hour += step

    return build


def _late_urine(patient: Patient) -> None:
    """1.6 L a day, of which half is stored ten hours late."""
    patient.admit()
    for n in range(1, 17):
        patient.output(6 * n, FOLEY, 400, delay=10 if n % 2 else 0.1)


def _irrigate(patient: Patient) -> None:
    patient.admit()
    for n in range(1, 15):
        patient.output(4 * n, 227488, 3480).output(4 * n + 0.5, 227489, 3500)


def _dialyse(patient: Patient, item: int, value: object) -> None:
    patient.result(0.5, CREATININE, 6.0).result(30, CREATININE, 1.0).result(55, CREATININE, 1.0)
    for hour in range(6, 90):
        patient.chart(hour, item, value)


def _ventilate(patient: Patient, po2: float, specimen: str | None) -> None:
    patient.admit().chart(1, 223835, 60).chart(1, 220339, 10).result(1.5, 50821, po2)
    if specimen:
        patient.result(1.5, 50800, specimen)


def _coma(patient: Patient, minutes: float) -> None:
    patient.admit().chart(5, 220739, 1).chart(5, 223900, 1)
    patient.chart(5 + minutes / 60, 223901, 1)


def _die_after_one_dose(patient: Patient, hours: float) -> None:
    patient.admit(hours, died=hours - 0.5)
    norepinephrine(patient).culture(1).give(2)


CASES: dict[str, Callable[[Patient], object]] = {
    "septic on arrival: vasopressor": septic(norepinephrine),
    "septic on arrival: liver": septic(lambda p: p.result(0.5, 50885, 8.0)),
    "septic on arrival: platelets": septic(lambda p: p.result(0.5, 51265, 30)),
    "septic on arrival: kidneys": septic(lambda p: p.result(0.5, CREATININE, 4.0)),
    "septic on arrival: coma": septic(
        lambda p: p.chart(0.5, 220739, 1).chart(0.5, 223900, 2).chart(0.5, 223901, 1)
    ),
    "infected, healthy": septic(lambda p: p.result(0.5, CREATININE, 0.8)),
    "shock, not infected": lambda p: norepinephrine(p.admit()),
    "later shock": septic(
        lambda p: p.chart(0.5, MEAN_PRESSURE, 85), lambda p: norepinephrine(p, 9)
    ),
    "anuria every 8 h": _urine_every(8, 0),
    "anuria every 12 h": _urine_every(12, 0),
    "anuria every 16 h": _urine_every(16, 0),
    "urine every 8 h": _urine_every(8, 500),
    "urine that is stored late": _late_urine,
    "irrigated bladder": _irrigate,
    "dialysis, MetaVision": lambda p: _dialyse(p.admit(), 224144, 120),
    "venous gas": lambda p: _ventilate(p, 38, None),
    "arterial gas": lambda p: _ventilate(p, 48, "ART"),
    "coma, parts 3 minutes apart": lambda p: _coma(p, 3),
    "coma, parts 40 minutes apart": lambda p: _coma(p, 40),
    "zeros": lambda p: p.admit().chart(2, MEAN_PRESSURE, 0).chart(3, HEART_RATE, 0),
    "one dose, then death": lambda p: _die_after_one_dose(p, 20),
    "one dose, then death before discharge": lambda p: p.admit(60, died=22).culture(1).give(2),
    "one dose": lambda p: norepinephrine(p.admit()).culture(1).give(2),
    "comfort measures": lambda p: p.admit().chart(20, 223758, "Comfort measures only", 0.5),
    "order and dose": lambda p: p.admit().order("2150-03-02").culture(29).give(28).give(40),
    "order on arrival": lambda p: (
        p.admit().order("2150-03-01").order("2150-03-02").order("2150-03-03").culture(20)
    ),
    "screen, then culture": lambda p: p.admit().culture(0.5, "MRSA SCREEN").infect(20, 60),
    "culture without a time": lambda p: (
        p.admit().culture(30, timed=False).give(30).give(42).give(54)
    ),
    "propofol": lambda p: p.admit().give(
        5,
        222168,
        hours=1 / 60,
        amount=445,
        amountuom="mg",
        rate=445,
        rateuom="mg/min",
        ordercategorydescription="Continuous Med",
    ),
}
CAREVUE_CASES: dict[str, Callable[[Patient], object]] = {
    "dialysis, CareVue": lambda p: _dialyse(p.admit(), 79, 100),
    "pounds": lambda p: p.admit().chart(1, 763, 90).chart(9, 763, 198.0),
}


def add_overlapping_stays(tables: RawTables) -> None:
    """Two stays of one admission, of which the second begins before the first has ended."""
    patient = Patient(tables, 901).admit(30).infect(2, 26)
    unit = {"dbsource": "metavision", "first_careunit": "SICU"}
    times = {"intime": text(24), "outtime": text(100)}
    add_rows(tables, "icustays", patient.ids | unit | times | {"icustay_id": 902})
    other = {"charttime": text(40), "storetime": text(40), "value": 75, "valuenum": 75}
    add_rows(tables, "chartevents", patient.ids | other | {"icustay_id": 902, "itemid": HEART_RATE})
    patient.result(1, CREATININE, 1.0).result(27, CREATININE, 3.0).result(60, CREATININE, 4.0)
