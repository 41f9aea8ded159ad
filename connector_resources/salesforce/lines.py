"""A document's lines: children that come with their parent, in a query within the query ("Relationship Queries", SOQL and SOSL
Reference). They travel as JSON: a list of objects that hold what was asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from connector_resources.contract import Entity, Field, FieldType, Page
from connector_resources.errors import ContractError
from connector_resources.http import Answer
from connector_resources.values import json_text

Lines: TypeAlias = Mapping[str, Mapping[str, Field]]  # relationship → path within a line → its field
STAMP = "SystemModstamp"


def columns(
    entity: Entity, lines: Lines, records: Sequence[Mapping[str, Any]], more: Callable[[str], Answer]
) -> dict[str, list[Any]]:
    """Each relationship as a column of JSON texts; and the entity's instant of modification, which is the latest of its lines
    where that is later. Raises ContractError for an answer that is none."""
    found: dict[str, list[Any]] = {}
    stamps = [record.get(entity.modified) for record in records] if entity.modified else []
    for name, fields in lines.items():
        texts = []
        for at, record in enumerate(records):
            children = list(_children(entity, name, record, more))
            texts.append(json_text([_line(child, fields) for child in children]))
            if stamps:
                stamps[at] = max([stamps[at], *(child[STAMP] for child in children if child.get(STAMP))])
        found[name] = texts
    return found | ({entity.modified: stamps} if entity.modified and stamps else {})


def stamped(page: Page, latest: Mapping[str, str]) -> Page:
    """The page with instants of modification that are at least these (id → text): a deleted line shows in no document."""
    import pandas as pd
    import pyarrow as pa

    texts = [max(version, latest.get(str(record), "")) for record, version in page.marks["version"].items()]
    versions = pa.array(texts, pa.string())
    moments = versions.cast(pa.timestamp("us", "UTC"))
    typed = {"version": versions, "modified": moments}
    marks = page.marks.assign(**{name: pd.arrays.ArrowExtensionArray(values) for name, values in typed.items()})
    return Page(page.records, marks, page.absent)


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
