"""Products, prices, opportunities and orders of a fresh org: a few, whatever its size."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from connector_resources.sandbox.salesforce.ids import record_id
from connector_resources.sandbox.salesforce.records import Record

STAGES = {  # stage → probability, forecast category
    "Prospecting": (10, "Pipeline"),
    "Qualification": (10, "Pipeline"),
    "Needs Analysis": (20, "Pipeline"),
    "Value Proposition": (50, "Pipeline"),
    "Id. Decision Makers": (60, "Pipeline"),
    "Perception Analysis": (70, "Pipeline"),
    "Proposal/Price Quote": (75, "Pipeline"),
    "Negotiation/Review": (90, "BestCase"),
    "Closed Won": (100, "Closed"),
    "Closed Lost": (0, "Omitted"),
}
_PRODUCTS = (  # name, family, unit, list price
    ("Pump P-100", "Hardware", "Each", 1249.5),
    ("Pump P-250", "Hardware", "Each", 2890.0),
    ("Valve DN 50", "Hardware", "Each", 84.9),
    ("Control Unit “Ω”", "Hardware", "Each", 640.25),
    ("Seal kit", "Spare Parts", "Each", 12.35),
    ("Bearing 6204", "Spare Parts", "Each", 7.8),
    ("Hose 3 m", "Spare Parts", "Metre", 4.15),
    ("Grease", "Spare Parts", "Kilogram", 9.99),
    ("Installation", "Services", "Hour", 95.0),
    ("Maintenance", "Services", "Hour", 110.0),
)
_STANDARD, _PARTNER = record_id("01s", 1), record_id("01s", 2)
_DOCUMENTS = 20
_FIRST_DAY = date(2026, 1, 5)


class Trade:
    """The rows of these sobject types, in the order in which they refer to one another."""

    def __init__(self, chance: random.Random, accounts: Mapping[str, Record], owners: Sequence[str]) -> None:
        self.chance = chance
        self.accounts = list(accounts)[:_DOCUMENTS]
        self.owners = owners

    def tables(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """(sobject type, rows without ids and audit fields)."""
        yield "Product2", (_product(number, *product) for number, product in enumerate(_PRODUCTS, 1))
        yield (
            "Pricebook2",
            iter(
                [
                    {"Name": "Standard Price Book", "IsActive": True, "IsStandard": True},
                    {"Name": "Partners", "IsActive": True, "Description": "One tenth less"},
                ]
            ),
        )
        yield "PricebookEntry", self._prices()
        for name, total, lines_name, field, prefix, made in (
            ("Opportunity", "Amount", "OpportunityLineItem", "OpportunityId", "006", self._opportunity),
            ("Order", "TotalAmount", "OrderItem", "OrderId", "801", self._order),
        ):
            documents = [made(number, account) for number, account in enumerate(self.accounts, 1)]
            lines = list(self._lines(field, prefix))
            for number, document in enumerate(documents, 1):
                mine = [line["TotalPrice"] for line in lines if line[field] == record_id(prefix, number)]
                document[total] = round(sum(mine), 2)
            yield name, iter(documents)
            yield lines_name, iter(lines)

    def _prices(self) -> Iterator[dict[str, Any]]:
        for book, share in ((_STANDARD, 1.0), (_PARTNER, 0.9)):
            for number, (name, _, _, price) in enumerate(_PRODUCTS, 1):
                yield {
                    "Name": name,
                    "Pricebook2Id": book,
                    "Product2Id": record_id("01t", number),
                    "UnitPrice": round(price * share, 2),
                    "IsActive": True,
                    "ProductCode": _code(number),
                }

    def _opportunity(self, number: int, account: str) -> dict[str, Any]:
        stage = self.chance.choice(list(STAGES))
        probability, forecast = STAGES[stage]
        return {
            "Name": f"Opportunity {number:04d}",
            "AccountId": account,
            "StageName": stage,
            "CloseDate": (_FIRST_DAY + timedelta(days=self.chance.randrange(300))).isoformat(),
            "Amount": round(self.chance.uniform(500, 90_000), 2),
            "Probability": probability,
            "ForecastCategory": forecast,
            "IsClosed": stage.startswith("Closed"),
            "IsWon": stage == "Closed Won",
            "Pricebook2Id": _STANDARD,
            "OwnerId": self.chance.choice(self.owners),
        }

    def _order(self, number: int, account: str) -> dict[str, Any]:
        status = self.chance.choice(["Draft", "Activated"])
        return {
            "OrderNumber": f"{number + 100:08d}",
            "AccountId": account,
            "EffectiveDate": (_FIRST_DAY + timedelta(days=self.chance.randrange(300))).isoformat(),
            "Status": status,
            "StatusCode": status,
            "Pricebook2Id": _STANDARD,
            "PoNumber": f"PO-{number:05d}",
            "OwnerId": self.chance.choice(self.owners),
        }

    def _lines(self, parent: str, prefix: str) -> Iterator[dict[str, Any]]:
        made = 0
        for number in range(1, len(self.accounts) + 1):
            for product in self.chance.sample(range(1, len(_PRODUCTS) + 1), k=2):
                quantity, price = float(self.chance.randrange(1, 20)), _PRODUCTS[product - 1][3]
                made += 1
                yield {
                    parent: record_id(prefix, number),
                    **({"OrderItemNumber": f"{made:010d}"} if parent == "OrderId" else {}),
                    "PricebookEntryId": record_id("01u", product),
                    "Product2Id": record_id("01t", product),
                    "Quantity": quantity,
                    "UnitPrice": price,
                    "TotalPrice": round(quantity * price, 2),
                }


def _product(number: int, name: str, family: str, unit: str, _: float) -> dict[str, Any]:
    return {
        "Name": name,
        "ProductCode": _code(number),
        "Family": family,
        "QuantityUnitOfMeasure": unit,
        "StockKeepingUnit": f"{number:06d}",
        "IsActive": True,
    }


def _code(number: int) -> str:
    return f"P{number:05d}"
