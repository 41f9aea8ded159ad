"""A few records for people's eyes: fields that are personal, or that nobody declared, are masked."""

import re
from collections.abc import Sequence

import pandas as pd

from connector_resources.contract import Field
from integration_pipelines.canonical import array

MASK = "•••"
_COLUMNS = 12


def preview(records: pd.DataFrame, fields: Sequence[Field]) -> str:
    """A Markdown table of the first columns; a null shows as nothing, a masked value as dots."""
    described = {field.name: field for field in fields}
    names = [str(name) for name in records.columns][:_COLUMNS]
    columns = []
    for name in names:
        field = described.get(name)
        texts = [None if value is None else str(value) for value in array(records[name]).to_pylist()]
        masked = field is None or field.masked
        columns.append(["" if text is None else MASK if masked else _cell(text) for text in texts])
    rows = zip((_cell(str(record)) for record in records.index), *columns, strict=True)
    lines = ["| " + " | ".join(["id", *names]) + " |", "|" + " --- |" * (len(names) + 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _cell(text: str) -> str:
    """Short, in one line, and without a character that means something in Markdown or HTML."""
    short = text if len(text) <= 40 else text[:39] + "…"
    return re.sub(r"([\\`*_\[\]<>|!~&])", r"\\\1", " ".join(short.split()))
