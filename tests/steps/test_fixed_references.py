"""References from the record's own id, into a field that the other side takes at creation and never again."""

from clients import CLIENT_MAPPING
from notebook import World, make_world

from connector_resources.contract import Entity, Field, FieldType
from integration_pipelines.settings import Settings
from integration_pipelines.store.database import Database

TARIFF = Entity(
    "Tariff",
    (
        Field("Id", FieldType.STRING, personal=False, nullable=False),
        Field("Number", FieldType.STRING, personal=False),
        Field("Phone", FieldType.STRING, personal=True),
        Field("ClientId", FieldType.STRING, personal=False, references=("Client",), fixed=True),
        Field("Changed", FieldType.INSTANT, personal=False, computed=True),
    ),
    key="Id",
    modified="Changed",
)
TARIFF_MAPPING = """
mapping_name: tariff-customer
source_entity: Tariff
target_entity: customer
mappings:
  - {source: Number, target: customer_number, match: true}
  - {source: Number, target: name, direction: inbound}
  - {source: Phone, target: phone}
  - {source: ClientId, target: id, reference: {entity: customer, external: Client}, direction: outbound}
  - {constant: true, target: active}
"""


def tariffs(database: Database, settings: Settings) -> tuple[World, World]:
    world = make_world(database, settings, mapping=CLIENT_MAPPING)
    world.book.described["Tariff"], world.book.notes["Tariff"] = TARIFF, {}
    return world, world.second_sync(TARIFF_MAPPING, direction="bidirectional")


def test_only_what_is_made_over_there_waits_for_its_parent(database: Database, settings: Settings) -> None:
    clients, world = tariffs(database, settings)
    world.book.write_note("Tariff", "T1", Number="1", Phone="1", ClientId="elsewhere")
    world.sync()
    world.change("UPDATE erp.customer SET phone = '2'")
    world.change("INSERT INTO erp.customer (name, customer_number, active) VALUES ('Off', '2', false), ('New', '3', true)")
    counts, _ = world.sync()
    assert (counts.actions, counts.failed) == ({"update": 1}, 1)
    assert world.book.notes["Tariff"]["T1"].values == {"Number": "1", "Phone": "2", "ClientId": "elsewhere"}
    assert ["not linked yet" in row["error_message"] for row in world.errors()] == [True]
    world.book.write_note("Client", "C3", Name="New", Number="3")
    clients.sync()
    assert world.sync()[0].actions == {"create": 1}
    assert world.book.writes[-1][2]["ClientId"] == "C3"
