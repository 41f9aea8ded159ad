"""Inbound sync by its laws: random histories of both sides, and a model in plain Python that says what must come out."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from notebook import World, make_world, now
from sync_model import FIELDS, Model, Values

from integration_pipelines.canonical import array
from integration_pipelines.model import Batch
from integration_pipelines.settings import Settings
from integration_pipelines.steps import sides
from integration_pipelines.steps.load import load
from integration_pipelines.steps.run import Run
from integration_pipelines.store import ledger
from integration_pipelines.store.database import Database

VALUES: dict[str, list[Any]] = {
    "Name": ["Ada", "Bela", "Cleo"],
    "Email": [None, "", "a@example.org", "b@example.org"],
    "Phone": [None, "1", "2"],
    "Revenue": [None, Decimal("1.50"), Decimal("1.5"), Decimal("-0.00"), Decimal("0")],
}
RECORDS = st.sampled_from(["C1", "C1", "C1", "C2", "C3"])  # long stories of one record, and others beside it
_tenants = itertools.count()


def spelled(name: str, value: Any) -> str | None:
    """Canonical text, as the ERP has it."""
    if value is None:
        return None
    return f"{value + 0:.2f}" if name == "Revenue" else str(value)


@dataclass
class Play:
    """The real thing and the model, side by side."""

    world: World
    model: Model
    watermark: str = ""
    journal: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @cached_property
    def looks(self) -> Run:
        return self.world.run(opened=False)

    # what people do

    def edit(self, record: str, values: dict[str, Any], silent: set[str]) -> None:
        self.world.book.clock = now() - timedelta(seconds=1)
        if record not in self.model.external:
            values = {"Name": "New", **values}
        self.world.book.write_note("Client", record, **{"Number": record, **values})
        note = self.world.book.notes["Client"][record].values
        told = self.model.external.setdefault(record, {})
        for name in silent - {"Name"} - set(values):
            note.pop(name, None)
            told.pop(FIELDS[name], None)
        told.update({FIELDS[name]: spelled(name, value) for name, value in values.items()} | {"customer_number": record})
        self.model.tombs.discard(record)
        self.model.changed[record] = self.model.tick()

    def remove(self, record: str) -> None:
        if record in self.model.external:
            self.world.book.clock = now() - timedelta(seconds=1)
            self.world.book.remove("Client", record)
            self.model.tombs.add(record)
            self.model.changed[record] = self.model.tick()

    def back(self, record: str) -> None:
        if record in self.model.external:
            self.edit(record, {}, set())

    def work(self, record: str, name: str, value: Any) -> None:
        """Somebody edits the ERP's record."""
        erp = self.erp_of(record)
        link = self.model.links.get(record)
        if erp is None:
            return
        self.world.change(
            f"UPDATE erp.customer SET {FIELDS[name]} = :value WHERE customer_number = :number", value=value, number=record
        )
        if erp[FIELDS[name]] != spelled(name, value) and link is not None:
            link.erp_at[FIELDS[name]] = self.model.tick()
        erp[FIELDS[name]] = spelled(name, value)

    def destroy(self, record: str) -> None:
        link = self.model.links.get(record)
        if link is not None and link.erp is not None:
            self.world.change("DELETE FROM erp.customer WHERE customer_number = :number", number=record)
            link.erp, link.gone_at = None, self.model.tick()

    def feud(self, record: str) -> None:
        """The ERP deletes a record, and the external side goes on with it."""
        self.destroy(record)
        phone = self.world.book.notes["Client"].get(record)
        self.edit(record, {"Phone": "2" if phone is None or phone.values.get("Phone") == "1" else "1"}, set())

    def stranger(self, record: str) -> None:
        """The ERP has a record of that number before the two meet."""
        if record in self.model.links or record in self.model.strangers:
            return
        self.world.change(
            "INSERT INTO erp.customer (name, customer_number, phone, active) VALUES ('Old', :n, '9', true)", n=record
        )
        known = {"name": "Old", "customer_number": record, "phone": "9", "active": "true"}
        self.model.strangers[record] = {**dict.fromkeys(FIELDS.values()), **known}

    def erp_of(self, record: str) -> Values | None:
        link = self.model.links.get(record)
        return self.model.strangers.get(record) if link is None else link.erp

    # what runs do

    def sync(self, page: int, twice: bool = False, edited: str | None = None, phone: str | None = None) -> None:
        """A run to its end; `twice`: each page comes again; `edited`: a record that somebody changes after the plan."""
        self.world.book.page_size = page
        run = self.world.run()
        batches = self.world.planned(run)
        aside = {record for batch in batches for record in array(batch.rejected["record_id"]).to_pylist()}
        self.model.sync(aside)  # who is set aside by the plan waits for the next run, whatever happens meanwhile
        if edited:
            self.work(edited, "Phone", phone)
        before = self.erp_now()
        load(run, [*batches, *batches] if twice else batches)
        self.model.sync(set(self.model.external) - aside)
        self.check(run.opened.id, before)

    def crash(self, page: int, after: int) -> None:
        """A run that dies when so many batches are committed."""
        self.world.book.page_size = page
        run = self.world.run()
        batches = self.world.planned(run)

        def dying() -> Iterator[Batch]:
            yield from batches[:after]
            raise KeyboardInterrupt

        before = self.erp_now()
        with pytest.raises(KeyboardInterrupt):
            load(run, dying())
        ids = [str(r) for b in batches[:after] for r in [*b.records.index, *array(b.rejected["record_id"]).to_pylist()]]
        self.model.sync(ids)
        self.check(run.opened.id, before, ended=False)

    def stale(self, page: int, record: str, first: dict[str, Any] | None, then: dict[str, Any]) -> None:
        """A run is planned with one change (None: a deletion), another run overtakes it with the next change (often the first
        one taken back), and then the first run is carried out."""
        self.sync(page)
        if first is None:
            self.remove(record)
        else:
            self.edit(record, first, set())
        old = self.world.run()
        batches = self.world.planned(old)
        self.edit(record, then, set())
        self.sync(page)
        before = self.erp_now()
        load(old, batches)
        assert self.erp_now() == before, "a stale plan changed the ERP"
        self.check(old.opened.id, before)

    def settled(self) -> None:
        """A run right after a run."""
        self.sync(100)
        before = self.erp_now()
        counts, _ = self.world.sync()
        assert (counts.succeeded, self.erp_now()) == (0, before), "a run right after a run wrote something"

    # what must hold at each moment

    def erp_now(self) -> dict[str, Values]:
        """Every ERP record's mapped fields as canonical text, by id."""
        run = self.looks
        with self.world.database.tenant(self.world.tenant) as scope:
            ids = [str(found) for found in scope.run("SELECT id FROM erp.customer").scalars()]
            texts = sides.erp_side(run, scope, ids).texts
        columns = {str(name): array(texts[name]).to_pylist() for name in texts.columns} if ids else {}
        return {str(i): {name: column[at] for name, column in columns.items()} for at, i in enumerate(texts.index)}

    def check(self, history_id: int, before: dict[str, Values], *, ended: bool = True) -> None:
        after = self.erp_now()
        order = str
        assert sorted(map(order, after.values())) == sorted(
            order({name: record[name] for name in next(iter(after.values()), {})}) for record in self.model.erp_records()
        )
        self.check_links(after)
        self.check_history(history_id, ended=ended)
        self.check_journal(history_id, before, after)

    def check_links(self, after: dict[str, Values]) -> None:
        rows = {r["external_id"]: r for r in self.world.rows("SELECT external_id, erp_id, state FROM identity_links")}
        assert set(rows) == set(self.model.links)
        assert len({row["erp_id"] for row in rows.values()}) == len(rows)
        for record, link in self.model.links.items():
            state = "parked" if link.parked else "deleted" if link.deleted else "active"
            assert rows[record]["state"] == state, record
            assert (rows[record]["erp_id"] in after) == (link.erp is not None)
            if link.erp is not None:
                assert after[rows[record]["erp_id"]]["customer_number"] == record

    def check_history(self, history_id: int, *, ended: bool) -> None:
        for row in self.world.rows("SELECT * FROM sync_history"):
            assert row["records_processed"] == row["records_succeeded"] + row["records_failed"] + row["records_skipped"]
        (row,) = self.world.rows("SELECT * FROM sync_history WHERE id = :id", id=history_id)
        (written,) = self.world.rows("SELECT count(*) FROM sync_record_changes WHERE sync_history_id = :id", id=history_id)
        assert row["records_succeeded"] == written["count"]
        assert (row["sync_status"] == "running") is not ended
        for mark in self.world.rows("SELECT position FROM sync_watermarks"):
            assert self.watermark <= mark["position"] <= now().isoformat()
            self.watermark = mark["position"]
        open_errors = [error["record_id"] for error in self.world.errors() if error["record_id"]]
        assert len(open_errors) == len(set(open_errors))
        if ended:
            assert set(open_errors) == {record for record, link in self.model.links.items() if link.parked}

    def check_journal(self, history_id: int, before: dict[str, Values], after: dict[str, Values]) -> None:
        """One row for each write, with what the ERP held before it and after it."""
        touched = {i for i in {*before, *after} if before.get(i) != after.get(i)}
        with self.world.database.tenant(self.world.tenant) as scope:
            stories = {
                i: [r for r in ledger.story(scope, "customer", i) if r["sync_history_id"] == history_id] for i in touched
            }
            (count,) = scope.rows("SELECT count(*) FROM sync_record_changes WHERE sync_history_id = :id", id=history_id)
        assert count["count"] == len(touched)
        for erp_id, rows in stories.items():
            (row,) = rows
            assert row["before"] == before.get(erp_id)
            held = after.get(erp_id)
            told = row["after"]
            assert (told is None) == (held is None)
            assert held is None or told == {name: held[name] for name in told}


def values(*names: str) -> Any:
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(VALUES[name]) for name in names})


PEOPLE = st.one_of(
    st.tuples(st.just("edit"), RECORDS, values(*FIELDS), st.sets(st.sampled_from(["Email", "Phone", "Revenue"]), max_size=1)),
    st.tuples(st.sampled_from(["remove", "back", "feud", "destroy", "stranger"]), RECORDS),
    *(st.tuples(st.just("work"), RECORDS, st.just(name), st.sampled_from(VALUES[name])) for name in FIELDS),
)
PAGES = st.sampled_from([1, 2, 100])
RUNS = st.one_of(
    st.tuples(st.just("sync"), PAGES, st.booleans()),
    st.tuples(st.just("sync"), PAGES, st.booleans(), RECORDS, st.sampled_from(VALUES["Phone"])),
    st.tuples(st.just("crash"), st.just(1), st.integers(0, 2)),
    st.tuples(st.just("stale"), PAGES, RECORDS, st.one_of(st.none(), values("Phone")), values("Phone")),
    st.just(("settled",)),
)
ROUNDS = st.lists(st.tuples(st.lists(PEOPLE, min_size=1, max_size=3), RUNS), min_size=4, max_size=7)


def perform(play: Play, rounds: list[tuple[list[tuple[Any, ...]], tuple[Any, ...]]]) -> None:
    """Begins with both records known on both sides, and ends with a run that has nothing left to do."""
    for record in ("C1", "C2"):
        play.edit(record, {name: VALUES[name][-1] for name in FIELDS}, set())
    play.sync(100)
    for people, run in rounds:
        for name, *given_ in (*people, run):
            getattr(play, name)(*given_)
    play.settled()


@pytest.mark.parametrize(
    ("strategy", "policy"),
    [*itertools.product(["source_wins", "target_wins", "last_write_wins", "manual"], ["deactivate", "propagate"]),
     ("last_write_wins", "ignore")],
)  # fmt: skip
def test_whatever_happens_on_both_sides_nothing_is_lost_doubled_or_written_twice(
    database: Database, settings: Settings, strategy: str, policy: str
) -> None:
    @hypothesis_settings(
        max_examples=3, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(ROUNDS)
    def whatever(rounds: list[tuple[list[tuple[Any, ...]], tuple[Any, ...]]]) -> None:
        world = make_world(database, settings, tenant=f"t{next(_tenants)}", strategy=strategy, delete_policy=policy)
        perform(Play(world, Model(strategy, policy)), rounds)

    whatever()
