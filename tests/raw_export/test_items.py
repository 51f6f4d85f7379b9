"""The items that are charted are the catalogue's, and the unmapped ones are not."""

from flowsheet.cohort import catalogue
from flowsheet.raw_export.items import (
    SYSTEMS,
    list_unmapped_item_ids,
    load_charted_items,
    load_quantities,
)


def test_charted_items_are_in_the_catalogue_and_unmapped_items_are_not() -> None:
    mapped = {
        (row["itemid"], row["name"]) for row in catalogue.mimic3_items().iter_rows(named=True)
    }
    names = {quantity.name: quantity.variable or quantity.name for quantity in load_quantities()}
    for item in load_charted_items():
        name = names[item.quantity]
        assert {(item.carevue_itemid, name), (item.metavision_itemid, name)} <= mapped
    mapped_ids = set(catalogue.mimic3_items()["itemid"])
    for system in (*SYSTEMS, "lab"):
        assert mapped_ids.isdisjoint(list_unmapped_item_ids(system, 90))
