"""Pages of the external system are joined to batches."""

from decimal import Decimal

from notebook import make_world

from integration_pipelines.settings import Settings
from integration_pipelines.steps.extract import extract, gathered
from integration_pipelines.store.database import Database


def test_small_pages_become_batches_of_whole_pages(database: Database, settings: Settings) -> None:
    world = make_world(database, settings)
    for number in range(10):
        world.book.write_note("Client", f"C{number}", Name=f"Client {number}", Number=str(number), Revenue=Decimal(number))
    world.book.page_size = 2
    run = world.run()
    run.batch_size = 5
    batches = list(extract(run))
    assert [list(batch.records.index) for batch in batches] == [[f"C{n}" for n in range(6)], [f"C{n}" for n in range(6, 10)]]
    assert batches[0].records["Name"].tolist() == [f"Client {n}" for n in range(6)]


def test_of_a_record_on_two_pages_the_later_one_counts(database: Database, settings: Settings) -> None:
    world = make_world(database, settings)
    run, book = world.run(), world.book
    pages = []
    for name in ("before", "after"):
        book.write_note("Client", "C1", Name=name)
        pages += list(book.read_ids(run.source, run.mapping.source_fields, ["C1"]))
    (batch,) = gathered(iter(pages), 100)
    assert batch.records["Name"].tolist() == ["after"]
    assert len(batch.marks) == 1
