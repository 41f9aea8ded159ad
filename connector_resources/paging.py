"""How one page leads to the next: link, cursor, offset, page number. Each strategy is a few lines and one object a read.

`first` gives what fills the first request; `follow` looks at a page's answer and at what its records are known by (their ids,
and versions where they have one) and says what fills the next one, or None at the end. A page that comes back for ever is
refused. Where pages may shift while they are read (a record that changes moves to the end of the order, and all behind it move
up by one), `Offset` notices and steps back, and the others say so with `steady`: numbered pages, also where they stand in a
link or in a cursor.
"""

import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

from connector_resources.errors import ContractError, SystemUnavailable
from connector_resources.manifest import Header, Paging
from connector_resources.templates import NOTHING
from connector_resources.values import at

if TYPE_CHECKING:
    from connector_resources.manifest import Path

_STEPS_BACK = 20
_REMEMBERED = 10_000  # records: pages that have shifted by more are read from the start
_VALUE = r'"(?:[^"\\]|\\.)*"|[^\s;,"]*'
_LINK = re.compile(rf'<([^>]*)>((?:\s*;\s*[^\s;,="]+(?:\s*=\s*(?:{_VALUE}))?)*)')  # RFC 8288, 3
_NUMBERED = re.compile(  # names of parameters in which links count pages or records
    r"_?page|page[_-]?(?:no|num|number|index)|page\[(?:number|offset)\]|p|\$?skip|\$skiptoken|_?offset|_?start|start[_-]?(?:index|at)",
    re.I,
)
_POSITION = (
    b"arrayconnection:"  # begins the cursors of graphql-relay, Graphene and Strawberry: a place in a list, not a record
)
_PARAMETER = re.compile(rf';\s*([^\s;,="]+)\s*=\s*({_VALUE})')


@dataclass(frozen=True)
class Reply:
    """An answer: its content (JSON-like) and headers (lower case), the paths in it that the other side could not tell,
    whatever stands there, the path of the URL that it came from, and, where that is known, at which paths no such answer has
    anything."""

    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    untold: tuple[tuple[str, ...], ...] = ()
    path: str = ""
    lacks: "Callable[[Path], bool]" = lambda _: False

    def value(self, place: "Path | Header | None") -> Any:
        """What stands at a place of the answer; None where there is nothing."""
        if place is None:
            return None
        found = self.headers.get(place.name.lower()) if isinstance(place, Header) else at(self.content, place)
        return None if found is NOTHING else found


@dataclass(frozen=True)
class Next:
    """What fills the next request: placeholders, or a whole URL in place of it."""

    values: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None


class Pager(Protocol):
    steady: bool

    def first(self) -> Next: ...

    def follow(self, reply: Reply, ids: Sequence[str]) -> Next | None: ...


class Single:
    """One page, and no more."""

    steady = True

    def first(self) -> Next:
        return Next()

    def follow(self, reply: Reply, ids: Sequence[str]) -> Next | None:  # noqa: ARG002 - as its Protocol has it
        return None


class Link:
    """The answer names the next page's URL. One that counts pages or records shifts as they do."""

    def __init__(self, paging: Paging) -> None:
        self.steady = True
        self.paging = paging
        self.seen: set[str] = set()

    def first(self) -> Next:
        return Next()

    def follow(self, reply: Reply, ids: Sequence[str]) -> Next | None:  # noqa: ARG002 - as its Protocol has it
        link = reply.value(self.paging.next)
        if isinstance(self.paging.next, Header) and link:
            link = _next_of(str(link))
        if not link or not _more(self.paging, reply):
            return None
        link = _joined(reply.path, str(link), header=isinstance(self.paging.next, Header))
        _once(self.seen, link)
        self.steady = self.steady and not _counts(link)
        return Next(url=link)


def _joined(path: str, link: str, *, header: bool) -> str:
    """A link, completed by the path of its answer. A relative one in a body begins at the connector's URL, unless it is a
    query alone, or names the very place that was asked: OData's `Customers?$skiptoken=100` leaves the service's root out."""
    try:
        there = urlsplit(link)
    except ValueError:
        raise ContractError("The answer names a next page whose URL is none; check `paging` in the manifest.") from None
    same = not there.scheme and not there.netloc and path.endswith(f"/{unquote(there.path)}")
    if same or link.startswith("?"):
        return urljoin(path, f"?{there.query}")
    return urljoin(path, link) if header else link


def _next_of(header: str) -> str | None:
    """The target of the link whose relation is `next`."""
    for target, parameters in _LINK.findall(header):
        told = [
            value.strip('"').casefold().split() for name, value in _PARAMETER.findall(parameters) if name.casefold() == "rel"
        ]
        if told and "next" in told[0]:
            return str(target)
    return None


def _counts(link: str) -> bool:
    return any(_NUMBERED.fullmatch(name) and value.isdecimal() for name, value in parse_qsl(urlsplit(link).query))


def _is_position(cursor: str) -> bool:
    try:
        return base64.b64decode(cursor, validate=True).startswith(_POSITION)
    except (binascii.Error, ValueError):
        return False


class Cursor:
    """The answer holds a token that the next request hands back. One that holds a position shifts with its list."""

    def __init__(self, paging: Paging) -> None:
        self.steady = True
        self.paging = paging
        self.seen: set[str] = set()

    def first(self) -> Next:
        return Next()

    def follow(self, reply: Reply, ids: Sequence[str]) -> Next | None:  # noqa: ARG002 - as its Protocol has it
        cursor = reply.value(self.paging.next)
        if cursor in (None, "") or not _more(self.paging, reply):
            return None
        _once(self.seen, cursor)
        self.steady = self.steady and not _is_position(str(cursor))
        return Next({"cursor": cursor})


class Offset:
    """So many records are left out. Pages overlap: if the first record of a page was not read before, records have moved up
    meanwhile, and the next request goes back until a page begins with one that was, in the same version: a record that changed
    has moved. What a page holds that began beyond a gap does not count as read: the gap is still there behind it."""

    def __init__(self, paging: Paging) -> None:
        self.paging = paging
        self.start = self.offset = paging.first
        self.known: OrderedDict[str, None] = OrderedDict()  # the latest records without a gap, in the order they were read
        self.last: set[str] = set()
        self.back = 0  # steps back in a row
        self.returns = 0  # steps back since the read last got further than ever
        self.furthest = self.start
        self.overlap = 0  # of the page that comes next
        self.steady = paging.overlap > 0

    def first(self) -> Next:
        return Next({"offset": self.offset})

    def follow(self, reply: Reply, ids: Sequence[str]) -> Next | None:
        overlaps = self.overlap > 0 and self.offset > self.start
        if overlaps and (not ids or ids[0] not in self.known):
            self.back += 1
            self.returns += 1
            if self.returns > _STEPS_BACK:
                raise SystemUnavailable("Records change faster than their pages can be read; try again when it is quieter.")
            self.offset = max(self.start, self.offset - (self.overlap << self.back))
            return Next({"offset": self.offset})
        fresh = [id_ for id_ in ids if id_ not in self.last]
        if not fresh and not self.back and self.offset > self.start and len(ids) > max(self.overlap, 1):
            raise _endless()  # one record alone may have moved to the end meanwhile
        if not fresh and not self.back:
            return None
        self.back = 0
        self.last, reached = set(ids), self.offset + len(ids)
        self.known.update(dict.fromkeys(ids))
        while len(self.known) > _REMEMBERED:
            self.known.popitem(last=False)
        if reached > self.furthest:
            self.furthest, self.returns = reached, 0
        total = reply.value(self.paging.total)
        if not _more(self.paging, reply) or (isinstance(total, int) and reached - self.start >= total):
            return None
        self.overlap = min(self.paging.overlap, len(ids) - 1)
        self.offset = reached - self.overlap
        return Next({"offset": self.offset})


class PageNumber:
    """Pages are numbered. A number cannot overlap with the next, so the reader must look for shifts itself."""

    steady = False

    def __init__(self, paging: Paging) -> None:
        self.paging = paging
        self.page = paging.first
        self.last: list[str] = []

    def first(self) -> Next:
        return Next({"page": self.page})

    def follow(self, reply: Reply, ids: Sequence[str]) -> Next | None:
        if ids and list(ids) == self.last:
            raise _endless()
        total = reply.value(self.paging.total)
        done = isinstance(total, int) and self.page - self.paging.first + 1 >= total
        if not ids or done or not _more(self.paging, reply):
            return None
        self.last, self.page = list(ids), self.page + 1
        return Next({"page": self.page})


def pager(paging: Paging | None) -> Pager:
    """A fresh strategy for one read."""
    if paging is None:
        return Single()
    match paging.by:
        case "link":
            return Link(paging)
        case "cursor":
            return Cursor(paging)
        case "offset":
            return Offset(paging)
    return PageNumber(paging)


def _more(paging: Paging, reply: Reply) -> bool:
    """Whether the answer denies that there is more, where it says so at all."""
    return paging.more is None or reply.value(paging.more) not in (False, None, 0, "", "false", "0")


def _once(seen: set[str], token: object) -> None:
    if str(token) in seen:
        raise _endless()
    seen.add(str(token))


def _endless() -> ContractError:
    return ContractError(
        "The same page comes back again and again: check `paging` in the manifest (`next`, `more`, `total`, `first`)."
    )
