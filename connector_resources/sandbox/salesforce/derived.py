"""What the org works out by itself when a record is written, and the rules between records.

Of products, price books, opportunities and orders, as the Object Reference tells of them.
"""

from typing import Any

from connector_resources.sandbox.salesforce.org import Org
from connector_resources.sandbox.salesforce.records import Record
from connector_resources.sandbox.salesforce.refusal import Refusal
from connector_resources.sandbox.salesforce.schema import SObjectType
from connector_resources.sandbox.salesforce.seed_trade import STAGES


def check(org: Org, kind: SObjectType, new: Record) -> None:
    """Raises Refusal for a new record that does not fit those that are there."""
    if kind.name == "PricebookEntry":
        _check_price(org, new)
    if kind.name in ("OpportunityLineItem", "OrderItem"):
        entry = org.records["PricebookEntry"][new["PricebookEntryId"]]
        name = "Opportunity" if kind.name == "OpportunityLineItem" else "Order"
        parent = org.records[name][new[f"{name}Id"]]
        if parent.get("Pricebook2Id") not in (None, entry["Pricebook2Id"]):
            message = f"This price definition already belongs to a price book other than that of the {name.lower()}"
            raise Refusal(400, "FIELD_INTEGRITY_EXCEPTION", message, ["PricebookEntryId"])
        if kind.name == "OrderItem" and parent.get("Pricebook2Id") is None:
            message = "Pricebook Entry Id: a product can be added to an order only when it has a price book"
            raise Refusal(400, "FIELD_INTEGRITY_EXCEPTION", message, ["PricebookEntryId"])


def _check_price(org: Org, new: Record) -> None:
    of_product = [e for e in org.records["PricebookEntry"].values() if e["Product2Id"] == new["Product2Id"]]
    of_product = [entry for entry in of_product if not entry.get("IsDeleted")]
    if any(entry["Pricebook2Id"] == new["Pricebook2Id"] for entry in of_product):
        message = "This price definition already exists in this price book"
        raise Refusal(400, "DUPLICATE_VALUE", message, ["Pricebook2Id", "Product2Id"])
    books, prices = org.records["Pricebook2"], [*of_product, new]
    if not any(books[entry["Pricebook2Id"]].get("IsStandard") for entry in prices):
        message = "Before creating a custom price, create a standard price."
        raise Refusal(400, "STANDARD_PRICE_NOT_DEFINED", message, [])


_TOTALS = {"OpportunityLineItem": ("Opportunity", "Amount"), "OrderItem": ("Order", "TotalAmount")}


def roll_up(org: Org, kind: SObjectType, line: Record) -> None:
    """What a document's lines come to, in the document. One whose total stays is not touched, whatever else its line says."""
    if kind.name not in _TOTALS:
        return
    parent, field = _TOTALS[kind.name]
    id_ = line[f"{parent}Id"]
    lines = [one for one in org.records[kind.name].values() if one[f"{parent}Id"] == id_ and not one.get("IsDeleted")]
    total = round(sum(one.get("TotalPrice", 0) for one in lines), 2)
    document = org.records[parent][id_]
    if (lines or kind.name == "OrderItem") and not document.get("IsDeleted") and document.get(field) != total:
        org.update(parent, {id_: {field: total}})


def taken(org: Org, kind: SObjectType, id_: str, given: dict[str, Any]) -> dict[str, Any]:
    """What of an update is carried out: an opportunity's amount is that of its products once it has any, and a write of it is
    ignored while the rest is taken (Object Reference, Opportunity, Amount)."""
    if kind.name != "Opportunity" or "Amount" not in given:
        return given
    lines = org.records["OpportunityLineItem"].values()
    has_lines = any(line["OpportunityId"] == id_ and not line.get("IsDeleted") for line in lines)
    return {name: value for name, value in given.items() if name != "Amount" or not has_lines}


def values(org: Org, kind: SObjectType, record: Record) -> dict[str, Any]:
    """The fields that follow from the record's other ones."""
    match kind.name:
        case "Opportunity":
            chance, forecast = STAGES.get(record["StageName"], (50, "Pipeline"))
            closed = {"IsClosed": record["StageName"].startswith("Closed"), "IsWon": record["StageName"] == "Closed Won"}
            return {"Probability": record.get("Probability", chance), "ForecastCategory": forecast} | closed
        case "Order":
            number = f"{org.next_number('Order') + 100:08d}"
            return {"OrderNumber": record.get("OrderNumber", number), "StatusCode": record["Status"]}
        case "PricebookEntry":
            product = org.records["Product2"][record["Product2Id"]]
            return {"Name": product["Name"], "ProductCode": product.get("ProductCode")}
        case "OpportunityLineItem" | "OrderItem":
            product = org.records["PricebookEntry"][record["PricebookEntryId"]]["Product2Id"]
            total = round(record["Quantity"] * record.get("UnitPrice", 0), 2)
            made = {"Product2Id": product, "TotalPrice": total}
            if kind.name == "OrderItem":
                made["OrderItemNumber"] = record.get("OrderItemNumber") or f"{org.next_number('OrderItem'):010d}"
            return made
    return {}
