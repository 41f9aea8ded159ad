"""An ERP that stores another spelling than it is given (capitals, cut or rounded values): that is no edit of anybody's."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from clients import CLIENT_MAPPING
from notebook import World, fill, make_world
from orders import Orders, line, strategy

from integration_pipelines.settings import Settings
from integration_pipelines.store import ledger
from integration_pipelines.store.database import Database, engine

SPELLING = """
CREATE FUNCTION erp.spell_customer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.phone := upper(NEW.phone);
    NEW.name := left(NEW.name, 8);
    NEW.annual_revenue := round(NEW.annual_revenue, 0);
    RETURN NEW;
END $$;
CREATE TRIGGER spell BEFORE INSERT OR UPDATE ON erp.customer FOR EACH ROW EXECUTE FUNCTION erp.spell_customer();
CREATE FUNCTION erp.spell_line() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE erp.sales_order_line SET description = upper(description) WHERE id = NEW.id AND description <> upper(description);
    RETURN NULL;
END $$;
CREATE TRIGGER spell AFTER INSERT OR UPDATE ON erp.sales_order_line FOR EACH ROW EXECUTE FUNCTION erp.spell_line();
"""


@pytest.fixture
def spelling(database: Database) -> Database:
    with engine(database.url, role=None, poolclass=sa.NullPool).begin() as owner:
        owner.exec_driver_sql(SPELLING)
    return database


@pytest.fixture
def world(spelling: Database, settings: Settings) -> World:
    made = fill(make_world(spelling, settings, strategy="target_wins"))
    made.book.write_note("Client", "C1", Phone="a1")
    made.sync()
    return made


def ada(world: World) -> dict[str, Any]:
    found = world.rows("SELECT name, phone, annual_revenue, email FROM erp.customer WHERE customer_number = '001'")
    return found[0]


@pytest.mark.parametrize("policy", ["target_wins", "manual", "last_write_wins", "source_wins"])
def test_what_the_external_side_changes_arrives_again_and_again(spelling: Database, settings: Settings, policy: str) -> None:
    world = fill(make_world(spelling, settings, strategy=policy))
    for phone, revenue in (("a1", "10.60"), ("b2", "20.40"), ("b3", "30.00")):
        world.book.write_note("Client", "C1", Phone=phone, Revenue=Decimal(revenue))
        counts, _ = world.sync()
        assert counts.failed == 0
        assert (ada(world)["phone"], ada(world)["annual_revenue"]) == (phone.upper(), Decimal(revenue).quantize(Decimal(1)))
    again, _ = world.sync()
    assert (again.succeeded, again.failed) == (0, 0)


def test_a_change_of_another_field_leaves_the_erps_spelling_alone(world: World) -> None:
    before = ada(world)
    world.book.write_note("Client", "C1", Email="new@example.org")
    counts, _ = world.sync()
    assert counts.actions == {"update": 1}
    assert ada(world) == before | {"email": "new@example.org"}
    (written,) = world.rows("SELECT changed_fields FROM sync_record_changes ORDER BY changed_at DESC LIMIT 1")
    assert written["changed_fields"] == ["email"]


def test_an_edit_in_the_erp_is_still_an_edit(world: World) -> None:
    world.change("UPDATE erp.customer SET phone = 'erp' WHERE customer_number = '001'")
    world.book.write_note("Client", "C1", Phone="b2")
    world.sync()
    assert ada(world)["phone"] == "ERP"  # target_wins
    world.book.write_note("Client", "C1", Phone="c3")
    world.sync()
    assert ada(world)["phone"] == "ERP"  # and stays an edit, due outward


def test_the_journal_tells_what_the_erp_made_of_it(world: World) -> None:
    with world.database.tenant(world.tenant) as scope:
        (erp_id,) = scope.run("SELECT id::text FROM erp.customer WHERE customer_number = '001'").scalars()
        told = ledger.story(scope, "customer", erp_id)
    assert [(row["after"]["phone"], row["after"]["annual_revenue"]) for row in told] == [("A1", "11.00")]


def test_a_deletion_over_there_finds_no_edit_in_a_spelling(world: World) -> None:
    world.book.remove("Client", "C1")
    world.sync()
    assert world.rows("SELECT active FROM erp.customer WHERE customer_number = '001'") == [{"active": False}]


def test_lines_that_the_erp_spells_otherwise_are_no_edits(spelling: Database, settings: Settings) -> None:
    orders = Orders(make_world(spelling, settings, mapping=CLIENT_MAPPING))
    strategy(orders, "target_wins")
    orders.put(line(1, "one"), line(2, "two"))
    orders.world.sync()
    orders.put(line(1, "uno"), line(2, "two"))
    orders.world.sync()
    assert [text for _, text, _ in orders.lines()] == ["UNO", "TWO"]
    orders.world.change("UPDATE erp.sales_order_line SET quantity = 7 WHERE line_number = 2")
    for text in ("eins", "ichi"):
        orders.put(line(1, text), line(2, "two"))
        orders.world.sync()
        assert orders.lines() == [(1, text.upper(), Decimal(1)), (2, "TWO", Decimal(7))]
    orders.put(line(1, "ichi"), line(2, "dos", "3"))
    orders.world.sync()
    assert orders.lines() == [(1, "ICHI", Decimal(1)), (2, "DOS", Decimal(7))]  # both changed the quantity: the ERP's stays
    again, _ = orders.world.sync()
    assert again.succeeded == 0
