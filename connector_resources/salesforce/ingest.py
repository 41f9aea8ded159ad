"""Many changes of one action as a bulk job, and its three result files matched to the changes again.

The files are in no order, so a row is known by the column that says which record is meant: the id, or the upsert key. In the
table an empty value is absent, and #N/A is null ("Valid CSV Record Rows", Bulk API 2.0).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from connector_resources.contract import Changes, Entity
from connector_resources.errors import ContractError
from connector_resources.salesforce.jobs import Jobs
from connector_resources.salesforce.lanes import Row
from connector_resources.salesforce.values import texts

_NULL = "#N/A"
_LARGEST = 40_000_000  # bytes of a table; Salesforce takes 150 MB, but the result files hold it again, and lie in memory
_OPERATIONS = {"create": "upsert", "update": "update", "delete": "delete"}


@dataclass
class Told:
    """What a job's files say, by key: the id of what was written, (code, fields) of what was refused, and what was left."""

    done: dict[str, str] = field(default_factory=dict)
    refused: dict[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)


def possible(entity: Entity, changes: Changes, rows: Sequence[Row]) -> bool:
    """Whether these rows can be told apart in the result files, and be written in a table, in any order."""
    if (rows[0].action == "create" and not entity.upsert_key) or any(row.needs for row in rows):
        return False
    keys = {key_of(row) for row in rows}
    return len(keys) == len(rows) and (rows[0].action == "delete" or not _marked(changes))


def key_of(row: Row) -> str:
    """By what a row is known in the result files."""
    return row.key.casefold() if row.key else str(row.id)[:15]


def parts(entity: Entity, rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of one table after another that is not too large, records of one parent side by side."""

    def parents(row: Row) -> list[str]:
        return sorted(row.locks - {str(row.id)[:15], f"{entity.name} {str(row.key).casefold()}"})

    part: list[Row] = []
    size = 0
    for row in sorted(rows, key=parents):
        if part and size + row.size > _LARGEST:
            yield part
            part, size = [], 0
        part.append(row)
        size += row.size
    if part:
        yield part


def table(changes: Changes, entity: Entity, rows: Sequence[Row]) -> bytes:
    """The CSV of these rows, which have one action."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    places = pa.array([row.at for row in rows])
    key = entity.upsert_key if rows[0].action == "create" and entity.upsert_key else "Id"
    columns = {key: pa.array([row.key or row.id for row in rows], pa.string())}
    for name in map(str, changes.written.columns) if rows[0].action != "delete" else ():
        told = pa.array(changes.written[name].to_numpy(dtype=bool)).take(places)
        if name != key and pc.any(told).as_py():
            values = pc.fill_null(texts(changes.records[name]).take(places), _NULL)
            columns[name] = pc.if_else(told, pc.if_else(pc.equal(values, ""), _NULL, values), "")
    out = pa.BufferOutputStream()
    csv.write_csv(pa.table(columns), out, csv.WriteOptions(quoting_style="all_valid"))
    return bytes(out.getvalue())


def start(jobs: Jobs, entity: Entity, action: str, content: bytes) -> str:
    """The id of a job over this table. Raises what kept it from starting: then nothing was written."""
    settings = {"object": entity.name, "operation": _OPERATIONS[action]}
    key = {"externalIdFieldName": entity.upsert_key} if action == "create" and entity.upsert_key else {}
    return jobs.ingest(settings | key, content)


def told(jobs: Jobs, entity: Entity, action: str, id_: str) -> Told:
    """What the result files of a job that has ended say."""
    key = entity.upsert_key if action == "create" and entity.upsert_key else "Id"
    found = Told()
    for keyed, id_of, _ in _rows(jobs.file(id_, "successfulResults"), key, "sf__Id"):
        found.done[keyed] = id_of
    for keyed, _, error in _rows(jobs.file(id_, "failedResults"), key, "sf__Id", "sf__Error"):
        code, _, rest = error.partition(":")
        found.refused[keyed] = code, rest.rpartition(":")[2].removesuffix("--").split()
    for keyed, _, _ in _rows(jobs.file(id_, "unprocessedrecords"), key):
        found.left.add(keyed)
    return found


def _rows(content: bytes, key: str, *columns: str) -> Iterator[tuple[str, str, str]]:
    """Key, and up to two more columns, of each row of a result file."""
    import pyarrow as pa
    from pyarrow import csv

    if not content.strip():
        return
    wanted = (key, *columns)
    reading = csv.ReadOptions(use_threads=False, block_size=len(content))
    options = csv.ConvertOptions(column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted)
    try:
        read = csv.read_csv(pa.BufferReader(content), reading, csv.ParseOptions(newlines_in_values=True), options)
    except pa.ArrowException:
        raise ContractError("Salesforce answered with the result file of a bulk job in a form that is not known.") from None
    lists = [read[name].to_pylist() for name in wanted]
    lists += [[""] * read.num_rows] * (3 - len(lists))
    for keyed, second, third in zip(*lists, strict=True):
        yield (keyed[:15] if key == "Id" else keyed.casefold()), second, third


def _marked(changes: Changes) -> bool:
    """Whether a text says #N/A: in a table that would be null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [texts(changes.records[name]) for name in changes.records.columns]
    return any(
        pc.any(pc.equal(pc.utf8_trim_whitespace(one), _NULL)).as_py() for one in columns if pa.types.is_string(one.type)
    )
