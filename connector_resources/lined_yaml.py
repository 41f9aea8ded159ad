"""YAML whose errors can name a line.

Read as YAML 1.2 means it: `no` and `NO` are text (a country, not False), `0123` is text, a date is text, a repeated key is
an error and not a silent overwrite. Anchors and aliases are refused: a short text must not unfold into a huge document. So are
tags (`!!float` would bring floats in) and nesting without end.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import yaml

from connector_resources.errors import ConfigurationError

DEEPEST = 50

Place: TypeAlias = tuple[str | int, ...]

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast, where it is built


class _Loader(_Base):  # type: ignore[misc] # the base is chosen when the module is read
    yaml_implicit_resolvers: Mapping[str, Any] = {}  # filled below, by PyYAML's own way


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def load(text: str) -> tuple[Any, dict[Place, int]]:
    """The document, and the line of each of its keys and items by path: {("rules", 3, "target"): 14}.

    Numbers with a point stay text, so that no Decimal passes through a float. Raises ConfigurationError naming the line.
    """
    loader = _Loader(text)
    try:
        _check_events(text)
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        return (None if node is None else _build(loader, node, (), lines)), lines
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigurationError(f"{where}not YAML: {getattr(problem, 'problem', None) or 'unreadable'}") from None
    finally:
        loader.dispose()


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        line = event.start_mark.line + 1 if event.start_mark else 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigurationError(f"line {line}: nested more than {DEEPEST} levels deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigurationError(f"line {line}: anchors and aliases are not allowed; write it out")
        if getattr(event, "tag", None):
            raise ConfigurationError(f"line {line}: tags (!) are not allowed; put text in quotes, and write the rest plainly")
        if "\0" in (getattr(event, "value", None) or ""):
            raise ConfigurationError(f"line {line}: a NUL cannot be stored; write another text")


def _build(loader: Any, node: yaml.Node, path: Place, lines: dict[Place, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigurationError(f"line {line}: a key must be a word")
            key = str(key_node.value)  # as it is written: NO stays NO, 007 stays 007
            if key in found:
                raise ConfigurationError(f"line {line}: '{key}' is there twice")
            lines[(*path, key)] = line
            found[key] = _build(loader, value_node, (*path, key), lines)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, at), lines) for at, item in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise ConfigurationError(f"line {node.start_mark.line + 1}: the number is too long; put it in quotes") from None


def suggestion(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'upper'?" when something known is close, else what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        close = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=0.6)
        close = [name for name in names if close and name.lower() == close[0]]
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there is {', '.join(names)}" if 0 < len(names) <= 40 else ""
