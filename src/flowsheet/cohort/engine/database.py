"""A database as data: its tables, their columns and the files that map its items to concepts."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, model_validator

from flowsheet.cohort.engine.cells import CellKind
from flowsheet.cohort.engine.item_map import ItemMap, ItemSelection
from flowsheet.cohort.engine.roles import FIELDS, REQUIRED, SINGLE_ROLES
from flowsheet.cohort.time_zones import TimeZone
from flowsheet.config import FrozenModel, validate_config
from flowsheet.errors import UsageError, did_you_mean, first_line

SHIPPED = Path(__file__).parents[1] / "databases"
"""The folder of Flowsheet's own databases."""

Role = Literal[
    "stays",
    "admissions",
    "patients",
    "services",
    "diagnoses",
    "events",
    "procedures",
    "charted_rates",
    "infusions",
    "orders",
    "order_entries",
    "administrations",
    "cultures",
]


class TableSpec(FrozenModel):
    """One table of a database."""

    role: Role
    """What the table is for; see ``roles.py``."""
    columns: dict[str, str]
    """The database's column for each field of the role; with ``?`` at its end where files may lack
    it."""
    values: dict[str, Literal["number", "text"]] = Field(default_factory=dict)
    """Of a table of events with a column for each item: these columns, and what they contain; with
    ``?`` at its end where files may lack it. The column's name is the item."""
    texts: dict[str, dict[str, str]] = Field(default_factory=dict)
    """What the texts of a field mean (``sex: {female: F}``), in any case, with ``_`` or blanks;
    ``"*"`` is any other text, and the meaning ``""`` an empty cell. Texts that are not listed are
    counted, and their cells are empty."""
    keep: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Texts of a field, in lower case: rows with another one are not used. ``""`` is no text."""
    dates: tuple[str, ...] = ()
    """Fields that are dates by definition: a time of day is not expected."""
    needed_for: str | None = None
    """What the table decides (``every event``): an extract in which no table of those that share it
    has a row is refused."""
    optional: bool = False
    """Whether the table may be missing."""

    @model_validator(mode="after")
    def _check_fields(self) -> TableSpec:
        known = FIELDS[self.role]
        for field in (*self.columns, *self.dates, *self.keep, *self.texts):
            if field not in known:
                hint = did_you_mean(field, known)
                raise ValueError(f"a table of {self.role} has no field {field!r}: {hint}")
        if self.values and self.role != "events":
            raise ValueError(f"a table of {self.role} has no values; they are for events")
        without = [field for field in (*self.texts, *self.keep) if field not in self.columns]
        if without:
            raise ValueError(f"no column is given for the field {without[0]!r}")
        required = REQUIRED[self.role]
        if self.role == "events" and not self.values:
            required = (*required, "item", "number")
        missing = [fields for fields in required if not set(fields.split("|")) & set(self.columns)]
        if missing:
            names = ", ".join(missing).replace("|", " or ")
            raise ValueError(f"a table of {self.role} needs the fields {names}")
        return self

    @cached_property
    def names(self) -> dict[str, str]:
        """The database's column for each field, and those of ``values``, in lower case."""
        own = {column.rstrip("?"): column for column in self.values}
        columns = {**self.columns, **own}
        return {field: name.rstrip("?").lower() for field, name in columns.items()}

    @cached_property
    def optional_fields(self) -> tuple[str, ...]:
        """Fields whose column a file may lack."""
        fields = [field for field, name in self.columns.items() if name.endswith("?")]
        return (*fields, *(name.rstrip("?") for name in self.values if name.endswith("?")))

    @cached_property
    def kinds(self) -> dict[str, CellKind]:
        """The fields that are read, and what their cells contain.

        Fields that no column holds are null; those of single values are left out.
        """
        fields = FIELDS[self.role]
        chosen = self.columns if self.role == "events" else fields
        kinds = {field: fields[field] for field in chosen} | dict.fromkeys(self.dates, CellKind.day)
        kinds |= dict.fromkeys(self.texts, CellKind.text)
        return kinds | {name.rstrip("?"): CellKind(kind) for name, kind in self.values.items()}


class DatabaseSpec(FrozenModel):
    """The YAML of a database."""

    title: str
    """The database's name and version, for people."""
    licence: str = "not stated"
    folders: tuple[str, ...] = ()
    """Subfolders in which tables may lie."""
    time_zone: TimeZone = None
    """The zone of the times, such as UTC; null: the hospital's, and none is stated."""
    text_ids: bool = False
    """Whether ids may be texts; those that are no numbers are numbered by a hash."""
    items: ItemSelection
    """Which items of which files are read."""
    tables: Annotated[dict[str, TableSpec], Field(min_length=2)]
    """The tables by name, in lower case, in the order in which they are read."""

    @model_validator(mode="after")
    def _check_roles(self) -> DatabaseSpec:
        roles: list[str] = [table.role for table in self.tables.values()]
        repeated = [role for role in SINGLE_ROLES if roles.count(role) > 1]
        if repeated:
            raise ValueError(f"there are several tables of {repeated[0]}")
        if "stays" not in roles:
            raise ValueError("no table has the role stays")
        return self


class Database:
    """A database that the engine can read."""

    def __init__(self, file: Path, spec: DatabaseSpec) -> None:
        self.file = file
        self.name = file.stem
        self.spec = spec
        self.items = ItemMap(spec.items, file.parent)
        unknown = set(self.items.rows["table"]) - set(spec.tables)
        if unknown:
            todo = f"tables: {', '.join(spec.tables)}"
            what = f"items are of tables that are not described: {', '.join(sorted(unknown))}"
            raise UsageError(what, where=str(file), todo=todo)

    @property
    def is_shipped(self) -> bool:
        """Whether the database is one of Flowsheet's own."""
        return self.file.parent == SHIPPED

    def own_files(self) -> list[Path]:
        """The YAML and the files of items of a database of others."""
        return [] if self.is_shipped else [self.file, *self.items.own_files()]

    @property
    def tables(self) -> dict[str, TableSpec]:
        """The tables by name."""
        return self.spec.tables

    def of_role(self, role: str) -> list[str]:
        """The names of the tables with a role."""
        return [name for name, table in self.tables.items() if table.role == role]

    def table_of(self, role: str) -> str | None:
        """The name of the only table with a role; None where there is none."""
        return next(iter(self.of_role(role)), None)

    @property
    def stay_table(self) -> str:
        """The name of the table of stays."""
        return self.of_role("stays")[0]

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Groups of tables of which one must have a row, by what they decide."""
        groups: dict[str, tuple[str, ...]] = {}
        for name, table in self.tables.items():
            if table.needed_for:
                groups[table.needed_for] = (*groups.get(table.needed_for, ()), name)
        return groups


def read_database(file: Path) -> Database:
    """Read a database's YAML.

    Raises:
        UsageError: the YAML is wrong; the message names the key.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise UsageError("the file is not valid YAML", where=str(file), todo=reason) from error
    if not isinstance(values, dict):
        raise UsageError("the file must contain keys and values", where=str(file))
    spec = validate_config(DatabaseSpec, values, str(file))
    return Database(file, spec)


@lru_cache(maxsize=8)
def load_database(name: str) -> Database:
    """A shipped database."""
    return read_database(SHIPPED / f"{name}.yaml")
