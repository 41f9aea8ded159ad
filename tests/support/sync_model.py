"""What an inbound sync must come to, in plain Python: one record at a time, as the sync semantics say it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

FIELDS = {"Name": "name", "Email": "email", "Phone": "phone", "Revenue": "annual_revenue"}

Values = dict[str, str | None]


@dataclass
class Link:
    """What the model knows of a pair. `seen`: the external values that were settled last (None: a tombstone was)."""

    base: Values
    seen: Values | None
    erp: Values | None  # None: gone
    erp_at: dict[str, int] = field(default_factory=dict)
    gone_at: int = 0
    deleted: bool = False
    parked: bool = False


@dataclass
class Model:
    """Both sides, and what a sync has to make of them. Records have match keys of their own, so each is by itself."""

    strategy: str
    policy: str
    external: dict[str, Values] = field(default_factory=dict)
    tombs: set[str] = field(default_factory=set)
    changed: dict[str, int] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    strangers: dict[str, Values] = field(default_factory=dict)  # ERP records without a link
    clock: int = 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def sync(self, ids: Iterable[str]) -> None:
        for record in sorted(set(ids)):
            if record in self.tombs:
                self.bury(record)
            elif record in self.external:
                self.meet(record)

    def bury(self, record: str) -> None:
        link = self.links.get(record)
        if link is None or link.deleted or self.policy == "ignore":
            return
        if link.erp is None:
            link.deleted, link.parked = True, False
            link.seen, link.base = None, {}
            return
        edits = [n for n, value in link.base.items() if link.erp[n] != value]
        if edits and self.strategy == "manual":
            link.parked = True
            return
        keeps = bool(edits) and (
            self.strategy == "target_wins"
            or (self.strategy == "last_write_wins" and any(link.erp_at.get(name, 0) > self.changed[record] for name in edits))
        )
        link.deleted, link.parked = True, False
        link.seen = None
        if keeps:
            return
        if self.policy == "propagate":
            link.erp = None
        else:
            link.erp["active"] = link.base["active"] = "false"

    def meet(self, record: str) -> None:
        external, link = {**self.external[record], "active": "true"}, self.links.get(record)
        if link is None and record in self.strangers:
            erp = self.strangers.pop(record)
            told = {name: value for name, value in external.items() if value is not None}
            self.links[record] = Link(dict(external), external, {**erp, **told})
            return
        if link is None:
            self.links[record] = Link(dict(external), external, self.fresh(external))
            return
        if link.seen == external and not link.parked:
            return
        if link.erp is None:
            self.back_or_gone(record, link, external)
            return
        both = [n for n, x in external.items() if n in link.base and x != link.erp[n] and x != link.base[n] != link.erp[n]]
        if both and self.strategy == "manual":
            link.parked = True
            return
        for name, x in external.items():
            if name not in link.base:
                wins = x is not None
            elif name in both:
                later = self.changed[record] > link.erp_at.get(name, 0)
                wins = self.strategy == "source_wins" or (self.strategy == "last_write_wins" and later)
            else:
                wins = x != link.base[name] and link.erp[name] == link.base[name]
            link.erp[name] = x if wins else link.erp[name]
            link.base[name] = x
        link.deleted = link.parked = False
        link.seen = external

    def back_or_gone(self, record: str, link: Link, external: Values) -> None:
        ours = link.deleted and link.seen is None
        later = self.strategy == "last_write_wins" and self.changed[record] > link.gone_at
        if ours or later or self.strategy == "source_wins":
            self.links[record] = Link(dict(external), external, self.fresh(external))
        elif self.strategy == "manual":
            link.parked = True
        else:
            link.deleted, link.parked = True, False
            link.seen, link.base = external, {}

    @staticmethod
    def fresh(external: Values) -> Values:
        return {**dict.fromkeys(FIELDS.values()), **external}

    def erp_records(self) -> list[Values]:
        return [link.erp for link in self.links.values() if link.erp is not None] + list(self.strangers.values())
