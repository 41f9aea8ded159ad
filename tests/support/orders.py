"""Documents with child lines from the notebook into the ERP's sales orders."""

import json
from decimal import Decimal
from typing import Any

from notebook import World

from connector_resources.contract import Entity, Field, FieldType

ORDER = Entity(
    "Order",
    (
        Field("Id", FieldType.STRING, personal=False, nullable=False),
        Field("Number", FieldType.STRING, personal=False),
        Field("ClientId", FieldType.STRING, personal=False, references=("Client",)),
        Field("Lines", FieldType.JSON, personal=False),
        Field("Changed", FieldType.INSTANT, personal=False, computed=True),
    ),
    key="Id",
    modified="Changed",
)
MAPPING = """
mapping_name: order-sales_order
source_entity: Order
target_entity: sales_order
mappings:
  - {source: Number, target: order_number, match: true}
  - {source: ClientId, target: customer_id, reference: {entity: customer, external: Client}}
  - {constant: draft, target: status, owner: erp}
  - {constant: "2026-01-01", target: order_date}
  - {constant: EUR, target: currency_code}
  - source: Lines
    target: lines
    lines:
      - {source: no, target: line_number, transforms: [to_integer]}
      - {source: text, target: description}
      - {source: qty, target: quantity, transforms: [to_decimal]}
      - {source: item, target: item_id, reference: {entity: item, external: Thing}}
"""


def line(no: int, text: str, qty: str = "1", **more: Any) -> dict[str, Any]:
    return {"no": no, "text": text, "qty": qty, **more}


OUTWARD = """
  - source: Lines
    target: lines
    direction: outbound
    lines:
      - {source: no, target: line_number}
      - {source: text, target: description}
      - {source: qty, target: quantity, transforms: [to_text]}
      - {source: item.id, target: item_id, reference: {entity: item, external: Thing}}
"""


class Orders:
    def __init__(self, world: World, mapping: str = MAPPING, **sync: Any) -> None:
        self.clients = world
        self.book = world.book
        self.book.notes["Order"] = {}
        self.book.described["Order"] = ORDER
        self.world = world.second_sync(mapping, **sync)
        self.book.write_note("Client", "C1", Name="Ada Ltd", Number="001")
        world.sync()

    def put(self, *lines: dict[str, Any], record: str = "O1", **values: Any) -> None:
        content = {"Number": f"SO-{record}", "ClientId": "C1", "Lines": json.dumps(lines), **values}
        self.book.write_note("Order", record, **content)

    def lines(self, record: str = "O1") -> list[tuple[int, str, Decimal]]:
        rows = self.world.rows(
            """SELECT l.line_number, l.description, l.quantity FROM erp.sales_order_line l
               JOIN erp.sales_order o ON o.id = l.sales_order_id WHERE o.order_number = :n ORDER BY l.line_number""",
            n=f"SO-{record}",
        )
        return [(row["line_number"], row["description"], row["quantity"]) for row in rows]


def strategy(orders: Orders, name: str) -> None:
    orders.world.change(
        "UPDATE sync_configurations SET conflict_resolution_strategy = :s WHERE id = :id", s=name, id=orders.world.config.id
    )
