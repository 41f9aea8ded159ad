"""B: the values on which both sides of a pair last agreed, field by field, in the spelling of each side.

An ERP may store another spelling than it was given: a column cuts, pads or rounds, a trigger writes capitals. That is not an
edit. So B keeps what the external side said and, where it is another text, what the ERP made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from integration_pipelines.canonical import array, frame, rows_from_json, rows_json, where

Bools: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
ERP = "erp:"  # no field's name has a colon


@dataclass(frozen=True)
class Base:
    """Canonical texts (`external` and `erp`: same index, same columns), and which fields B knows."""

    external: pd.DataFrame
    erp: pd.DataFrame
    known: Bools

    @classmethod
    def agreed(cls, texts: pd.DataFrame, known: Bools) -> "Base":
        """Both sides spell it alike, as far as we know."""
        return cls(texts, texts, known)

    @classmethod
    def opened(cls, contents: Sequence[bytes | None] | pa.Array, names: Sequence[str], index: "pd.Index[Any]") -> "Base":
        """Inverse of `json`. None knows nothing."""
        texts, there = rows_from_json(contents, [*names, *(ERP + name for name in names)], index)
        known, respelled = there[:, : len(names)], there[:, len(names) :]
        external, erp = texts[list(names)], texts[[ERP + name for name in names]].set_axis(list(names), axis=1)
        return cls(external, chosen(respelled, erp, external), known)

    def json(self) -> pa.Array:
        """Each row as a JSON object: the external texts under their names, the ERP's where it is another one."""
        both = pd.concat([self.external, self.erp.add_prefix(ERP)], axis=1)
        return rows_json(both, np.hstack([self.known, self.known & differs(self.external, self.erp)]))

    def take(self, mask: Bools) -> "Base":
        return Base(self.external[mask], self.erp[mask], self.known[mask])


def differs(left: pd.DataFrame, right: pd.DataFrame) -> Bools:
    """Cells that are not the same; null equals null."""
    out = np.zeros(left.shape, dtype=bool)
    for at, name in enumerate(left.columns):
        a, b = array(left[name]), array(right[name])
        if a.equals(b):
            continue
        unequal = pc.fill_null(pc.not_equal(a, b), False)
        one_null = pc.xor(pc.is_null(a), pc.is_null(b))
        out[:, at] = np.asarray(pc.or_(unequal, one_null))
    return out


def chosen(mask: Bools, these: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Cell by cell: of `these` where the mask is True, else of `others`."""
    columns = {
        str(name): where(mask[:, at], array(these[name]), array(others[name])) for at, name in enumerate(others.columns)
    }
    return frame(columns, others.index)
