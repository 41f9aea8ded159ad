"""A manifest's text → `Manifest`. What is wrong is refused naming file, line, key and what was expected there."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connector_resources import manifest_grammar as grammar
from connector_resources import manifest_rules as rules
from connector_resources.contract import Entity, Field, FieldType
from connector_resources.errors import ConfigurationError
from connector_resources.grammar import Document, check, document
from connector_resources.manifest import (
    Batch,
    ById,
    Call,
    EntitySpec,
    FieldSpec,
    Header,
    Manifest,
    Paging,
    Path,
    Probe,
    Reading,
    Refusal,
    Since,
    Writing,
)


def parse(name: str, text: str) -> Manifest:
    """The manifest in this text; `name` is the file's. Raises ConfigurationError naming file, line, key and expectation."""
    source = document(name, text)
    kind = source.content.get("kind") if isinstance(source.content, dict) else None
    check(grammar.form_of(kind), source)
    rules.check_placeholders(source)
    raw = source.content
    errors, limits, test = raw.get("errors", {}), raw.get("limits", {}), raw["test"]
    found = Manifest(
        kind=kind or "",
        name=raw["name"],
        title=raw["title"],
        auth=raw["auth"],
        test=_call(test),
        account=_path(test.get("account")),
        entities={key: _entity(source, key, value) for key, value in raw["entities"].items()},
        documentation=raw.get("documentation", ""),
        headers=raw.get("headers", {}),
        rates=tuple((limits[key], s) for key, s in (("per_second", 1.0), ("per_minute", 60.0)) if key in limits),
        concurrency=limits.get("concurrency", 1),
        error_code=_path(errors.get("code")),
        error_in_success=errors.get("in_success", False),
        refusals=tuple(
            Refusal(one.get("status"), one.get("code"), one["means"], one.get("says", "")) for one in errors.get("table", [])
        ),
        wsdl=raw.get("wsdl", ""),
        endpoint=raw.get("endpoint", ""),
        service=raw.get("service"),
        port=raw.get("port"),
    )
    rules.check_manifest(source, found)
    return found


def _entity(source: Document, name: str, raw: Mapping[str, Any]) -> EntitySpec:
    place = ("entities", name)
    fields = {key: _field(source, (*place, "fields", key), key, value) for key, value in raw["fields"].items()}
    deleted, batch, probe, one = raw.get("deleted", {}), raw.get("batch"), raw.get("probe"), raw.get("by_id")
    return EntitySpec(
        entity=Entity(
            name=name,
            fields=tuple(spec.field for spec in fields.values()),
            key=raw["key"],
            label=raw.get("label", name.replace("_", " ").capitalize()),
            modified=raw.get("modified"),
            active=raw.get("active"),
            upsert_key=raw.get("upsert_key"),
        ),
        fields=fields,
        read=_reading(source, (*place, "read"), raw["read"]),
        version=_path(raw.get("version")),
        deleted=_path(deleted.get("path")),
        deleted_values=tuple(deleted.get("values", [True])),
        deleted_listed=deleted.get("listed", True),
        tombstones=_reading(source, (*place, "tombstones"), raw["tombstones"]) if "tombstones" in raw else None,
        by_id=ById(_call(one), _path(one.get("records")) or (), one.get("many", 1)) if one else None,
        writes={verb: _writing(raw[verb]) for verb in ("create", "update", "delete", "upsert") if verb in raw},
        batch=_batch(batch) if batch else None,
        probe=Probe(_call(probe), _path(probe.get("records")) or (), _path(probe.get("id")), _path(probe.get("version")))
        if probe
        else None,
    )


def _field(source: Document, place: tuple[str, ...], name: str, raw: Mapping[str, Any]) -> FieldSpec:
    kind = FieldType(raw["type"])
    rules.check_field(source, place, kind, raw)
    path = _path(raw.get("path", [name])) or (name,)
    computed = raw.get("computed", False)
    zone = _zone(source, place, raw)
    described = Field(
        name=name,
        type=kind,
        label=raw.get("label", name.replace("_", " ").capitalize()),
        personal=raw.get("personal"),
        nullable=raw.get("nullable", True),
        writable=raw.get("writable", not computed),
        computed=computed,
        unique=raw.get("unique", False),
        max_length=raw.get("max_length"),
        scale=raw.get("scale", 0),
        choices=tuple(raw.get("choices", ())),
        references=tuple(raw.get("references", ())),
        currency=raw.get("currency"),
    )
    write_path = _path(raw.get("write_path")) or path
    return FieldSpec(
        described, path, write_path, raw.get("format", "iso"), zone, raw.get("lenient", False), raw.get("send", "number")
    )


def _zone(source: Document, place: tuple[str, ...], raw: Mapping[str, Any]) -> ZoneInfo | None:
    try:
        return ZoneInfo(raw["zone"]) if "zone" in raw else None
    except (ZoneInfoNotFoundError, ValueError):
        raise source.refuse((*place, "zone"), "expected a time zone like Europe/Berlin or UTC") from None


def _call(raw: Mapping[str, Any]) -> Call:
    return Call(
        method=raw.get("method", "GET"),
        path=raw.get("path", ""),
        params=raw.get("params", {}),
        headers=raw.get("headers", {}),
        body=raw.get("body", raw.get("arguments", raw.get("variables"))),
        encode=raw.get("encode", "json"),
        operation=raw.get("operation", ""),
        query=raw.get("query", ""),
    )


def _reading(source: Document, place: tuple[str, ...], raw: Mapping[str, Any]) -> Reading:
    since, paging = raw.get("since", {}), raw.get("paging")
    return Reading(
        call=_call(raw),
        records=_path(raw.get("records")) or (),
        paging=_paging(paging) if paging else None,
        since=Since(
            since.get("format", "iso"),
            since.get("inclusive", True),
            _day(since.get("start")),
            _zone(source, (*place, "since"), since),
        ),
        id=_path(raw.get("id")) or (),
        at=_path(raw.get("at")),
    )


def _paging(raw: Mapping[str, Any]) -> Paging:
    default: Path | Header | None = Header("Link") if raw["by"] == "link" else None
    return Paging(
        by=raw["by"],
        next=_place(raw.get("next")) or default,
        more=_path(raw.get("more")),
        total=_path(raw.get("total")),
        size=raw.get("size", 100),
        first=raw.get("first", 1 if raw["by"] == "page" else 0),
        overlap=raw.get("overlap", 1),
        then=_call(raw["then"]) if "then" in raw else None,
    )


def _writing(raw: Mapping[str, Any]) -> Writing:
    return Writing(
        _call(raw),
        _place(raw.get("id")),
        _place(raw.get("version")),
        _path(raw.get("refusals")),
        _path(raw.get("stamp")),
        raw.get("any_version"),
    )


def _batch(raw: Mapping[str, Any]) -> Batch:
    return Batch(
        call=_call(raw),
        size=raw["size"],
        actions=tuple(raw.get("actions", ("create", "update", "delete"))),
        item=raw["item"],
        results=_path(raw.get("results")) or (),
        **{name: _path(raw.get(name)) for name in ("id", "version", "status", "code", "ok")},
    )


def _path(raw: str | Sequence[str] | None) -> Path | None:
    """A path is written with points, or as a list where a name has a point in it."""
    if raw is None:
        return None
    return tuple(raw.split(".")) if isinstance(raw, str) else tuple(raw)


def _day(raw: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(raw).replace(tzinfo=UTC) if raw else None
    except ValueError:
        raise ConfigurationError(f"{raw} is no day of the calendar; write one like 1970-01-01.") from None


def _place(raw: Any) -> Path | Header | None:
    return Header(raw["header"]) if isinstance(raw, Mapping) else _path(raw)
