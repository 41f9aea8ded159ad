"""Which records may hold a value of a key field, without looking at all of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any


class Index:
    """Ids by (sobject type, field, value without case). It only grows: a record named may have another value now."""

    def __init__(self) -> None:
        self._tables: Mapping[str, Any] | None = None
        self._ids: dict[tuple[str, str], dict[str, set[str]]] = {}

    def clear(self) -> None:
        self._ids.clear()

    def add(self, sobject: str, id_: str, values: Mapping[str, Any]) -> None:
        """A record got these values."""
        for (kind, field), known in self._ids.items():
            if kind == sobject and values.get(field) is not None:
                known[str(values[field]).casefold()].add(id_)

    def candidates(
        self, tables: Mapping[str, Mapping[str, Mapping[str, Any]]], sobject: str, field: str, value: str
    ) -> list[str]:
        """Ids, in their order, of records that have or had this value."""
        if self._tables is not tables:
            self.clear()
            self._tables = tables
        if (sobject, field) not in self._ids:
            self._ids[sobject, field] = _by_value(tables[sobject].values(), field)
        return sorted(self._ids[sobject, field].get(value.casefold(), ()))


def _by_value(records: Iterable[Mapping[str, Any]], field: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.get(field) is not None:
            found[str(record[field]).casefold()].add(record["Id"])
    return found
