"""SOQL texts. The one place where names and values become part of a query ("SOQL SELECT Syntax", SOQL and SOSL Reference)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from urllib.parse import quote_plus

from connector_resources.errors import ConfigurationError

LONGEST_URL = 8_000  # characters; proxies on the way take no more, Salesforce itself 16,384 bytes
_LONGEST_QUERY = 16_000
_USUAL = re.compile(r"[A-Za-z0-9_.\-~ ',()=<>:]*", re.ASCII)
_CODES = {one: quote_plus(one) for one in " ',()=<>:"}
_NONE: Mapping[str, Sequence[str]] = MappingProxyType({})
_NAME = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*", re.ASCII)
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?", re.ASCII)
_ESCAPED = re.compile(r"[\\'\n\r\t\x08\f]")
_ESCAPES = str.maketrans({"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\b": r"\b", "\f": r"\f"})


def name(text: str) -> str:
    """A name of an entity or a field path, as it is. Raises ConfigurationError for anything else."""
    if not _NAME.fullmatch(text):
        raise ConfigurationError(f"'{text[:80]}' cannot be a name in Salesforce: names are letters, digits, _ and points.")
    return text


def literal(value: str | datetime) -> str:
    """A text, quoted and escaped, or an aware instant, cut to milliseconds."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
    return f"'{value.translate(_ESCAPES)}'"


def select(
    entity: str, paths: Sequence[str], where: str = "", order: Sequence[str] = (), lines: Mapping[str, Sequence[str]] = _NONE
) -> str:
    """`where` is a condition made of `at_least`, `equal` or `one_of`; `lines`: child relationship → paths. Raises
    ConfigurationError where it gets too long."""
    alive = "WHERE IsDeleted = FALSE"  # queryAll would show children that were deleted
    children = [f"(SELECT {','.join(map(name, inner))} FROM {name(one)} {alive})" for one, inner in lines.items()]  # noqa: S608 - names
    text = f"SELECT {','.join([*map(name, paths), *children])} FROM {name(entity)}"  # noqa: S608 - names only, checked
    text += f" WHERE {where}" if where else ""
    text += f" ORDER BY {','.join(f'{name(path)} ASC' for path in order)}" if order else ""
    if len(encoded(text)) > _LONGEST_QUERY:
        raise ConfigurationError(
            f"{len(paths)} fields of {entity} make a query that is longer than Salesforce takes: map fewer of them."
        )
    return text


def encoded(text: str) -> str:
    """As it stands in a URL. What queries are mostly made of goes a quick way: they may hold hundreds of ids."""
    if not _USUAL.fullmatch(text):
        return quote_plus(text)
    for character, code in _CODES.items():
        text = text.replace(character, code)
    return text


def at_least(path: str, moment: datetime) -> str:
    return f"{name(path)} >= {literal(moment)}"


def equal(path: str, text: str) -> str:
    return f"{name(path)} = {literal(text)}"


def one_of(path: str, texts: Sequence[str]) -> str:
    """One look at all texts tells that none needs an escape: hundreds of ids seldom do."""
    escaped = [text.translate(_ESCAPES) for text in texts] if _ESCAPED.search("".join(texts)) else texts
    listed = "','".join(escaped)
    return f"{name(path)} IN ('{listed}')"


def id_chunks(ids: Sequence[str], query_without: str) -> Iterator[list[str]]:
    """Each id once, in its 15 characters, in lists that keep the URL of the query short. What cannot be an id is left out.

    The last three of 18 characters only spell the case of the others."""
    known = list(dict.fromkeys(text[:15] for text in ids if _ID.fullmatch(text)))
    room = LONGEST_URL - 200 - len(quote_plus(query_without))
    size = max(50, room // len(quote_plus("'000000000000000',")))
    for start in range(0, len(known), size):
        yield known[start : start + size]


def text_chunks(texts: Sequence[str], query_without: str) -> Iterator[list[str]]:
    """Each text once, in lists that keep the URL of the query short."""
    room = LONGEST_URL - 200 - len(quote_plus(query_without))
    chunk: list[str] = []
    size = 0
    for text in dict.fromkeys(texts):
        more = len(quote_plus(f"{literal(text)},"))
        if chunk and size + more > room:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += more
    if chunk:
        yield chunk
