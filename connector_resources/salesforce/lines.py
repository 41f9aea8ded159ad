"""A document's lines: children that come with their parent, in a query within the query ("Relationship Queries", SOQL and SOSL
Reference). They travel as JSON: a list of objects that hold what was asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from connector_resources.answers import Answer
from connector_resources.contract import Entity, Field, FieldType, Page
from connector_resources.errors import ContractError
from connector_resources.salesforce.values import array
from connector_resources.values import json_text

Lines: TypeAlias = Mapping[str, Mapping[str, Field]]  # relationship → path within a line → its field
STAMP = "SystemModstamp"


def columns(
    entity: Entity, lines: Lines, records: Sequence[Mapping[str, Any]], more: Callable[[str], Answer]
) -> tuple[dict[str, list[Any]], list[str | None]]:
    """Each relationship as a column of JSON texts; and of each document the latest instant at which one of its lines was
    modified. Raises ContractError for an answer that is none."""
    found: dict[str, list[Any]] = {}
    stamps: list[str | None] = [None] * len(records)
    for name, fields in lines.items():
        texts = []
        for at, record in enumerate(records):
            children = list(_children(entity, name, record, more))
            texts.append(json_text([_line(child, fields) for child in children]))
            told = [stamps[at], *(child.get(STAMP) for child in children)]
            stamps[at] = max((stamp for stamp in told if stamp), default=None)
        found[name] = texts
    return found, stamps


def touched(page: Page, latest: Sequence[str | None]) -> Page:
    """The page with instants of modification that are at least these: a document is as new as its lines. Its version stays its
    own."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    stamps = pa.array(latest, pa.string()).cast(pa.timestamp("us", "UTC"))
    own = array(page.marks["modified"])
    later = pc.fill_null(pc.greater(stamps, own), False)
    modified = pc.if_else(later, stamps, own)
    return Page(page.records, page.marks.assign(modified=pd.arrays.ArrowExtensionArray(modified)), page.absent)


def _children(
    entity: Entity, name: str, record: Mapping[str, Any], more: Callable[[str], Answer]
) -> Iterator[Mapping[str, Any]]:
    """All of them, page by page."""
    if name not in record:
        raise ContractError(f"Salesforce left the lines {name} of {entity.name} out of its answer.")
    answer = record[name]
    while answer is not None:
        try:
            yield from answer["records"]
            following = None if answer.get("done", True) else answer["nextRecordsUrl"]
        except (KeyError, TypeError, AttributeError):
            raise ContractError(
                f"Salesforce answered the lines {name} of {entity.name} in a form that the connector does not know."
            ) from None
        answer = more(following).json() if following else None


def _line(child: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for path, field in fields.items():
        *way, last = path.split(".")
        place, held = line, child
        for step in way:
            held = held[step] if held[step] is not None else {}
            place = place.setdefault(step, {})
        value = held.get(last)
        if field.type is FieldType.INSTANT and isinstance(value, str):
            value = value.removesuffix("+0000") + "Z"
        place[last] = value
    return line
