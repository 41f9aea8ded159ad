"""CSV as the bulk API reads and writes it ("Prepare CSV Files", Bulk API 2.0)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from connector_resources.sandbox.salesforce.refusal import Refusal

DELIMITERS = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
ENDINGS = {"LF": "\n", "CRLF": "\r\n"}
LONGEST_VALUE, LONGEST_ROW, MOST_COLUMNS = 32_000, 400_000, 5_000  # characters of a field and of a record; fields


@dataclass
class Table:
    header: Sequence[str]
    rows: list[Sequence[str]]


def read(content: bytes, delimiter: str, ending: str) -> Table:
    """Raises Refusal (the job fails) for what is no such table."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refusal(400, "CLIENTINPUTERROR", "ClientInputError : the data is not UTF-8") from None
    first = text.partition("\n")[0]
    if first.endswith("\r") is not (ending == "\r\n") and "\n" in text:
        setting = "LF" if ending == "\n" else "CRLF"
        message = f"LineEnding is invalid on user data. Current LineEnding setting is {setting}"
        raise Refusal(400, "CLIENTINPUTERROR", f"ClientInputError : {message}")
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    if not rows or len(rows[0]) > MOST_COLUMNS:
        raise Refusal(400, "INVALIDBATCH", "InvalidBatch : the data needs a header of at most 5,000 fields")
    header, *records = rows
    for row in records:
        if len(row) != len(header):
            message = f"The number of columns in the row doesn't match the header: {len(row)} instead of {len(header)}"
            raise Refusal(400, "INVALIDBATCH", f"InvalidBatch : {message}")
        if max(map(len, row)) > LONGEST_VALUE or sum(map(len, row)) > LONGEST_ROW:
            raise Refusal(400, "INVALIDBATCH", "InvalidBatch : a field holds more than 32,000 characters, or a record 400,000")
    return Table(header, list(records))


def written(table: Table, delimiter: str, ending: str) -> bytes:
    """Every value quoted, as the real one does."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    if table.header:
        writer.writerow(table.header)
        writer.writerows(table.rows)
    return out.getvalue().encode()
