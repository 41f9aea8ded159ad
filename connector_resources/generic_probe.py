"""What became of writes that got no answer, found out without changing anything.

create   by the manifest's `probe` (a stamp, a natural key); else, where it carries an idempotency key or goes by an upsert
         key, it may be sent again, as that makes no second record
update   the record as it stands: it has all the values that were written (it arrived), or still the version that the write was
         made for (it did not)
delete   the record is gone, or it is not
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from connector_resources.contract import Changes, Outcome
from connector_resources.errors import ContractError, RecordError
from connector_resources.generic_read import rows_of, untold_rows, version_of
from connector_resources.generic_write import Result, Step, Writer, outcomes, steps
from connector_resources.manifest import Probe
from connector_resources.refusals import Gone
from connector_resources.templates import NOTHING, places, value_of
from connector_resources.values import MarkedText, at

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from connector_resources.contract import Page
    from connector_resources.manifest import Call, Path
    from connector_resources.paging import Reply


class Prober:
    """`read_ids(fields, ids)`: pages of these records. `textual`: answers know no types but text."""

    def __init__(
        self, writer: Writer, read_ids: "Callable[[Sequence[str], Sequence[str]], Any]", *, textual: bool = False
    ) -> None:
        self.writer = writer
        self.spec = writer.spec
        self.read_ids = read_ids
        self.textual = textual

    def probe(self, changes: Changes) -> "pd.DataFrame":
        given = steps(changes)
        stands = self._stands([one for one in given if one.action != "create"])
        results = []
        for one in given:
            if one.action == "create":
                results.append(self._created(one))
            else:
                results.append(self._changed(one, stands.get(one.id or "")))
        return outcomes(changes, results)

    def _created(self, one: Step) -> Result:
        spec = self.spec
        if spec.probe:
            return self._searched(one, spec.probe)
        way = self.writer.way("create")
        if way is not None and (way.keyed or way is spec.writes.get("upsert")):
            return Result(Outcome.ABSENT, one.id, None, "It may be sent again: what is sent twice is carried out once.")
        return self._unknown(one)

    def _searched(self, one: Step, probe: Probe) -> Result:
        """Found by its stamp: it is ours. Found by a natural key: it is ours, or it was there, and may not be made again."""
        values = self.writer.values(one)
        if not _names_it(probe.call, values):  # it would find others
            return self._unknown(one)
        try:
            reply = self.writer.ask(probe.call, values, about_record=True)
        except Gone:
            return Result(Outcome.ABSENT, one.id)
        except RecordError:
            return self._unknown(one)
        found = self._found(reply, probe.records)
        if found is None:  # taken for nothing found, it would be made twice
            where = ".".join(probe.records) or "its top"
            return self._unknown(one, f"the answer to its `probe` has no list of records at {where}: check the manifest")
        rows = [row for row in found if row is not None]
        if not rows:
            return Result(Outcome.ABSENT, one.id)
        if len(rows) > 1:
            return self._unknown(one)
        id_ = at(rows[0], probe.id or self.spec.key.path)
        version = at(rows[0], probe.version) if probe.version else version_of(self.spec, rows[0])
        if id_ in (None, NOTHING, ""):
            return self._unknown(one)
        return Result(Outcome.DONE, str(id_), None if version in (None, NOTHING) else str(version))

    def _found(self, reply: "Reply", records: "Path") -> list[Any] | None:
        """What a search found; None where the answer has no place for it."""
        if reply.content is None:
            return []
        try:
            untold_rows(reply, records)
        except ContractError:
            return None
        there = at(reply.content, records)
        return (
            [there] if isinstance(there, Mapping | MarkedText) else rows_of(reply, records, textual=self.textual, alone=False)
        )

    def _changed(self, one: Step, record: Mapping[str, Any] | None) -> Result:
        """`record`: its fields by name; "" is its version, and None for a record that is gone."""
        if record is None:
            done = one.action == "delete"
            return Result(Outcome.DONE, one.id) if done else Result(Outcome.REFUSED, one.id, None, "The record is gone.")
        way = self.writer.way(one.action)
        if one.action == "delete":
            return Result(Outcome.ABSENT, one.id, record[""])
        if one.values and all(record.get(name, NOTHING) == value for name, value in one.values.items()):
            return Result(Outcome.DONE, one.id, record[""])
        if (one.version is not None and record[""] == one.version) or (way is not None and way.keyed):
            return Result(Outcome.ABSENT, one.id, record[""])
        return self._unknown(one)

    def _stands(self, given: Sequence[Step]) -> dict[str, dict[str, Any]]:
        import pyarrow as pa

        names = list(dict.fromkeys(name for one in given for name in one.values))
        ids = list(dict.fromkeys(one.id for one in given if one.id))
        found: dict[str, dict[str, Any]] = {}
        pages: Sequence[Page] = list(self.read_ids(names, ids)) if ids else []
        for page in pages:
            columns = {name: pa.array(page.records[name]).to_pylist() for name in names}
            marks = zip(page.marks.index, page.marks["version"], page.marks["deleted"], strict=True)
            for place, (id_, version, deleted) in enumerate(marks):
                if not deleted:
                    found[str(id_)] = {name: values[place] for name, values in columns.items()} | {"": version}
        return found

    def _unknown(self, one: Step, why: str = "look there") -> Result:
        return Result(
            Outcome.UNKNOWN, one.id, None, f"Whether this change of {self.spec.entity.name} arrived cannot be told; {why}."
        )


def _names_it(call: "Call", values: Mapping[str, Any]) -> bool:
    """Whether a search says anything of this record, and all that its path needs."""

    def given(name: str) -> bool:
        return value_of(name, values) not in (NOTHING, None, "")

    said = [name for name in places((call.path, call.params, call.headers, call.body)) if not name.startswith("config.")]
    return any(map(given, said)) and all(given(name) for name in places(call.path) if name in said)
