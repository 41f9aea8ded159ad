"""External records as the ERP's batches need them: as they are, and mapped into ERP fields."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from connector_resources.contract import Page
from connector_resources.frames import arrow_type, shown
from integration_pipelines.canonical import TEXT, aligned, array, canonical, frame, record_index
from integration_pipelines.model import Batch, concat, marks_frame
from integration_pipelines.steps import sides
from integration_pipelines.steps.base import Bools
from integration_pipelines.steps.map import apply
from integration_pipelines.steps.references import resolve_references
from integration_pipelines.steps.run import Run


@dataclass(frozen=True)
class ExternalSide:
    """By external id: raw (run.watched, Arrow-typed) and marks; of those that could be mapped also records (run.fields,
    Arrow-typed), texts (the same, canonical) and said (boolean array). `unmapped`: id → why a record could not be; `outside`:
    those for which the mapping's conditions do not hold."""

    raw: pd.DataFrame
    marks: pd.DataFrame
    records: pd.DataFrame
    texts: pd.DataFrame
    said: Bools
    unmapped: dict[str, str]
    outside: frozenset[str] = frozenset()

    def aligned(self, ids: pa.Array, index: "pd.Index[Any]") -> "ExternalSide":
        """The records of these ids, in their order, under that index; all null where there is none."""
        wanted = record_index(ids)
        parts = (self.raw, self.marks, self.records, self.texts)
        raw, marks, records, texts = (aligned(part, wanted).set_axis(index) for part in parts)
        at = pc.index_in(array(wanted), value_set=array(self.texts.index))
        there = np.asarray(pc.is_valid(at))
        said = np.zeros((len(wanted), self.said.shape[1]), dtype=bool)
        said[there] = self.said[at.drop_null().to_numpy()]
        return ExternalSide(raw, marks, records, texts, said, self.unmapped, self.outside)


def read(run: Run, ids: Sequence[str]) -> ExternalSide:
    """These external records; one that is gone is missing. Not to be called inside a transaction: it waits for the network."""
    pages = run.external.read_ids(run.source, run.watched, list(dict.fromkeys(ids))) if ids else ()
    return of_pages(run, pages)


def of_pages(run: Run, pages: Iterable[Page]) -> ExternalSide:
    return of_batch(run, _joined(run, pages))


def match_keys(run: Run, pages: Iterable[Page]) -> pd.DataFrame:
    """The fields of the match key, as the ERP has them, of all records in these pages that are alive: also of those that are
    not synced. Whoever cannot see them would make them a second time. Ids that cannot be stored are escaped, and
    not found again."""
    whole = _joined(run, pages)
    mapped = apply(run.mapping.keys_alone, whole.take(~whole.deleted))
    with run.database.tenant(run.tenant) as scope:
        keys = resolve_references(run, scope, mapped).records
    return keys.set_axis(record_index(shown(array(keys.index))))


def _joined(run: Run, pages: Iterable[Page]) -> Batch:
    batches = [Batch(page.records, page.marks, page.absent) for page in pages if len(page.records)]
    if not batches:
        return _nothing(run)
    whole = concat(batches)
    return whole.take(~whole.records.index.duplicated(keep="last"))


def of_batch(run: Run, raw: Batch) -> ExternalSide:
    """Mapped by the inbound rules. What is wrong with a record does not concern the sync here, only that it is not known."""
    mapped = apply(run.mapping, raw)
    with run.database.tenant(run.tenant) as scope:
        mapped = sides.all_columns(run, resolve_references(run, scope, mapped))
    failed = dict(
        zip(array(mapped.rejected["record_id"]).to_pylist(), array(mapped.rejected["message"]).to_pylist(), strict=True)
    )
    texts = canonical(mapped.records, run.fields)
    outside = frozenset(array(mapped.records.index[mapped.outside]).to_pylist())
    return ExternalSide(raw.records, raw.marks, mapped.records, texts, sides.said(mapped), failed, outside)


def _nothing(run: Run) -> Batch:
    index = record_index(pa.array([], TEXT))
    fields = [run.source.field(name) for name in run.watched]
    return Batch(frame({f.name: pa.array([], arrow_type(f)) for f in fields if f}, index), marks_frame(index))
