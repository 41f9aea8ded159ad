"""Three-way merge, field by field, of a frame of linked pairs.

X  the external record, mapped into ERP fields       E  the same fields of the ERP record       B  what both last agreed on

    X = E                      agreed: nothing is written
    only X differs from B      X is written to the ERP
    only E differs from B      left alone here: it is a change towards the external side
    both differ                a conflict: the field's own policy, else the sync config's strategy
    B does not know the field  a first meeting: the side that the mapping names as its owner

Afterwards B is X wherever the external side spoke. Where the ERP's value was kept (it won a conflict, or owns the field),
B = X says "seen, and decided": the ERP's value then counts as an edit of its own that is due outward, and the same X never
asks again. At a first meeting a null overwrites nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from integration_pipelines.canonical import array
from integration_pipelines.model import ConflictStrategy
from integration_pipelines.steps.base import Base, Bools, chosen, differs

Instants: TypeAlias = "np.ndarray[Any, np.dtype[np.datetime64]]"


@dataclass(frozen=True)
class FieldPolicy:
    """How one field is merged: its strategy in a conflict, who owns it at a first meeting, whether a null clears it."""

    strategy: ConflictStrategy
    external_owns: bool = True
    null_clears: bool = True


@dataclass(frozen=True)
class Sides:
    """Canonical texts of the three sides (same index, same columns) with boolean arrays of the same shape.

    said         the external side named the field
    external_at  when X was modified, one a record (NaT: unknown)
    erp_at       when E's field was last written, one a cell (NaT: unknown)
    """

    external: pd.DataFrame
    erp: pd.DataFrame
    base: Base
    said: Bools
    external_at: Instants
    erp_at: Instants


@dataclass(frozen=True)
class Merged:
    """Boolean arrays, a record by a field: write: X goes to the ERP · clash: a person must decide · said: X spoke (nulls that
    clear nothing left out), so that B becomes X there."""

    write: Bools
    clash: Bools
    said: Bools


def nulls_of(records: pd.DataFrame) -> Bools:
    """True where there is no value, a record by a field."""
    out = np.zeros(records.shape, dtype=bool)
    for at, name in enumerate(records.columns):
        out[:, at] = np.asarray(pc.is_null(array(records[name])))
    return out


def spoken(records: pd.DataFrame, said: Bools, policies: Sequence[FieldPolicy]) -> Bools:
    """Cells in which X speaks: named, and no null that clears nothing."""
    clears = np.array([policy.null_clears for policy in policies], dtype=bool)
    return said & (clears | ~nulls_of(records))


def merge(sides: Sides, policies: Sequence[FieldPolicy]) -> Merged:
    """Equal or unknown instants under last_write_wins: the ERP's value stays. Nothing is decided by chance."""
    nulls = nulls_of(sides.external)
    owns = np.array([policy.external_owns for policy in policies], dtype=bool)
    said = spoken(sides.external, sides.said, policies)
    open_ = said & differs(sides.external, sides.erp)
    known = sides.base.known
    external_changed = differs(sides.external, sides.base.external)
    erp_changed = differs(sides.erp, sides.base.erp)
    both = open_ & known & external_changed & erp_changed
    with np.errstate(invalid="ignore"):
        later = sides.external_at[:, None] > sides.erp_at  # False where either is NaT
    wins, manual = _by_strategy(policies, ConflictStrategy.SOURCE_WINS, later)
    write = (open_ & ~known & owns & ~nulls) | (open_ & known & external_changed & ~erp_changed) | (both & wins)
    return Merged(write, both & manual, said)


@dataclass(frozen=True)
class Sent:
    """Boolean arrays, a record by a field: send: E goes to the external side · clash: a person must decide · agreed: both
    sides hold the same."""

    send: Bools
    clash: Bools
    agreed: Bools


def merge_outward(sides: Sides, policies: Sequence[FieldPolicy], sendable: Bools) -> Sent:
    """The same merge, looked at from the ERP's side. `sendable`: the fields that an outbound rule reads.

    A field that the external side does not name (only outbound rules know it) is E's alone. Equal or unknown instants under
    last_write_wins: the ERP's value stays here too, and so it is sent."""
    nulls = nulls_of(sides.erp)
    clears = np.array([policy.null_clears for policy in policies], dtype=bool)
    owns = np.array([policy.external_owns for policy in policies], dtype=bool)
    known, said = sides.base.known, sides.said
    speaks = sendable & (clears | ~nulls)
    differ = ~said | differs(sides.external, sides.erp)
    erp_changed = known & differs(sides.erp, sides.base.erp)
    external_changed = said & known & differs(sides.external, sides.base.external)
    first = ~known & ~nulls & (~said | ~owns)
    both = erp_changed & external_changed & differ
    with np.errstate(invalid="ignore"):
        later = sides.external_at[:, None] > sides.erp_at  # False where either is NaT
    wins, manual = _by_strategy(policies, ConflictStrategy.TARGET_WINS, ~later)
    send = speaks & differ & ((erp_changed & ~external_changed) | (both & wins) | first)
    return Sent(send, speaks & both & manual, said & ~differ)


def base_of_agreement(sides: Sides, sent: Sent) -> Base:
    """B where both sides hold the same. What is sent follows when it has arrived (see outward_settle.py); an external change
    that nobody has read yet stays one."""
    external = chosen(sent.agreed, sides.external, sides.base.external)
    erp = chosen(sent.agreed, sides.erp, sides.base.erp)
    return Base(external, erp, sides.base.known | sent.agreed)


def _by_strategy(policies: Sequence[FieldPolicy], always: ConflictStrategy, last: Bools) -> tuple[Bools, Bools]:
    """Where a side wins a conflict, which it does under `always`, and under last_write_wins where `last`; and where a person
    must decide."""
    wins, manual = np.zeros_like(last), np.zeros_like(last)
    for at, policy in enumerate(policies):
        manual[:, at] = policy.strategy is ConflictStrategy.MANUAL
        latest = policy.strategy is ConflictStrategy.LAST_WRITE_WINS
        wins[:, at] = last[:, at] if latest else policy.strategy is always
    return wins, manual


def new_base(sides: Sides, merged: Merged) -> Base:
    """B after the merge. The ERP's spelling of a value that stands is kept; of one that is written it is not known yet
    (see settle.py)."""
    stands = sides.base.known & ~differs(sides.external, sides.base.external) & differs(sides.external, sides.erp)
    external = chosen(merged.said, sides.external, sides.base.external)
    erp = chosen(merged.said & ~stands, sides.external, sides.base.erp)
    return Base(external, erp, sides.base.known | merged.said)
