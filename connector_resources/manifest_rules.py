"""What the table of a manifest cannot say by itself: names that must lead somewhere, keys that need each other, and which
capabilities follow."""

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from connector_resources.contract import Capabilities, FieldType
from connector_resources.grammar import Document
from connector_resources.lined_yaml import Place, suggestion
from connector_resources.templates import places

if TYPE_CHECKING:
    from connector_resources.manifest import Call, EntitySpec, Manifest

_ANYWHERE = ("config",)
_READS = (*_ANYWHERE, "since", "size", "cursor", "offset", "page", "fields")
_WRITES = (*_ANYWHERE, "record", "intent", "id", "version", "key", "action")
KNOWN: Mapping[str, tuple[str, ...]] = {
    "read": _READS,
    "tombstones": _READS,
    "by_id": (*_ANYWHERE, "id", "ids", "size", "fields"),
    "create": _WRITES,
    "update": _WRITES,
    "delete": _WRITES,
    "upsert": _WRITES,
    "batch": (*_ANYWHERE, "items"),
    "item": _WRITES,
    "probe": (*_ANYWHERE, "intent", "record", "id", "key"),
}
_FOR_TYPES = {
    "max_length": (FieldType.STRING,),
    "choices": (FieldType.STRING,),
    "scale": (FieldType.DECIMAL,),
    "format": (FieldType.DATE, FieldType.INSTANT),
    "zone": (FieldType.INSTANT,),
    "send": (FieldType.DECIMAL, FieldType.INTEGER),
}


def placeholders(call: "Call", *others: Any) -> set[str]:
    """The names, without what stands behind a point, that a request is filled with."""
    parts = [call.path, call.params, call.headers, call.body, *others]
    return {name.partition(".")[0] for name in places(parts)}


def check_placeholders(source: Document) -> None:
    """Each placeholder is one that its operation fills."""
    raw = source.content
    for key in ("test", "headers", "wsdl", "endpoint"):
        _known(source, (key,), raw.get(key), _ANYWHERE, ())
    for name, entity in raw["entities"].items():
        for verb in KNOWN.keys() & entity.keys():
            place, fields = ("entities", name, verb), tuple(entity["fields"])
            given = dict(entity[verb])
            item = given.pop("item", None)
            _known(source, place, given, KNOWN[verb], fields)
            _known(source, (*place, "item"), item, KNOWN["item"], fields)


def _known(source: Document, place: Place, value: Any, known: tuple[str, ...], fields: tuple[str, ...]) -> None:
    for at, text in _texts(place, value):
        if at[-1] == "query":  # a GraphQL document has braces of its own
            continue
        for name in places(text):
            first, _, rest = name.partition(".")
            if first not in known:
                raise source.refuse(at, f"nothing fills {{{name}}} here{suggestion(first, known)}")
            if first == "record" and rest and rest not in fields:
                raise source.refuse(at, f"there is no field '{rest}'{suggestion(rest, fields)}")


def _texts(place: Place, value: Any) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, content in value.items():
            yield from _texts((*place, key), content)
    elif isinstance(value, list):
        for at, content in enumerate(value):
            yield from _texts((*place, at), content)


def check_field(source: Document, place: Place, kind: FieldType, raw: Mapping[str, Any]) -> None:
    for key, kinds in _FOR_TYPES.items():
        if key in raw and kind not in kinds:
            wanted = " or ".join(kinds)
            raise source.refuse((*place, key), f"'{key}' is for the type {wanted}, and this field is {kind.value}")
    if kind is FieldType.DATE and raw.get("format") in ("seconds", "millis"):
        raise source.refuse((*place, "format"), "seconds and millis make an instant; a civil date has none")


def check_query(source: Document, place: Place, call: "Call") -> None:
    """A GraphQL document is one operation, and its variables are those that the manifest gives."""
    from graphql import GraphQLSyntaxError, NonNullTypeNode, OperationDefinitionNode, parse

    try:
        found = [node for node in parse(call.query).definitions if isinstance(node, OperationDefinitionNode)]
    except GraphQLSyntaxError as problem:
        raise source.refuse((*place, "query"), f"not GraphQL: {problem.message}") from None
    if len(found) != 1:
        raise source.refuse((*place, "query"), "expected one operation (query or mutation)")
    declared = {one.variable.name.value: one for one in found[0].variable_definitions or ()}
    for name in call.body or {}:
        if name not in declared:
            raise source.refuse((*place, "variables", name), f"the query has no variable ${name}{suggestion(name, declared)}")
    for name, one in declared.items():
        if isinstance(one.type, NonNullTypeNode) and one.default_value is None and name not in (call.body or {}):
            raise source.refuse((*place, "variables"), f"the query needs ${name}, and nothing gives it")


def calls(manifest: "Manifest") -> Iterator[tuple[Place, "Call"]]:
    """Every request of a manifest, and where it stands."""
    yield ("test",), manifest.test
    for name, spec in manifest.entities.items():
        verbs = {
            "read": spec.read,
            "tombstones": spec.tombstones,
            "by_id": spec.by_id,
            "batch": spec.batch,
            "probe": spec.probe,
        }
        for verb, found in (verbs | dict(spec.writes)).items():
            if found is not None:
                yield ("entities", name, verb), found.call
            paging = getattr(found, "paging", None)
            if paging is not None and paging.then is not None:
                yield ("entities", name, verb, "paging", "then"), paging.then


def check_manifest(source: Document, manifest: "Manifest") -> None:
    if manifest.kind == "graphql":
        for at, call in calls(manifest):
            check_query(source, at, call)
    for name, spec in manifest.entities.items():
        place: Place = ("entities", name)
        _check_named_fields(source, place, spec)
        _check_paging(source, place, spec)
        _check_writes(source, place, spec)
    for method, raw in manifest.auth.items():
        if method == "api_key" and raw["in"] != "bearer" and "name" not in raw:
            raise source.refuse(("auth", method), "'name' is missing: the header or parameter that takes the key")
    if not manifest.auth:
        raise source.refuse(("auth",), "no authentication method; give one of api_key, basic, oauth2, certificate, none")
    for row, refusal in enumerate(manifest.refusals):
        if refusal.status is None and refusal.code is None:
            raise source.refuse(("errors", "table", row), "give 'status', 'code' or both")


def _check_named_fields(source: Document, place: Place, spec: "EntitySpec") -> None:
    entity = spec.entity
    named = (
        ("key", entity.key, FieldType.STRING),
        ("modified", entity.modified, FieldType.INSTANT),
        ("active", entity.active, FieldType.BOOLEAN),
        ("upsert_key", entity.upsert_key, None),
    )
    for key, name, kind in named:
        if name is None:
            continue
        field = entity.field(name)
        if field is None:
            raise source.refuse((*place, key), f"there is no field '{name}'{suggestion(name, entity.names)}")
        if kind and field.type is not kind and (key != "key" or field.type is not FieldType.INTEGER):
            raise source.refuse((*place, key), f"'{key}' must name a field of type {kind.value}, and '{name}' is {field.type}")
    for field in entity.fields:
        money = entity.field(field.currency) if field.currency else None
        if field.currency and (money is None or money.type is not FieldType.STRING):
            at = (*place, "fields", field.name, "currency")
            raise source.refuse(at, "'currency' must name the text field that holds the ISO 4217 code")


def _check_paging(source: Document, place: Place, spec: "EntitySpec") -> None:
    for verb, reading in (("read", spec.read), ("tombstones", spec.tombstones)):
        if reading is None:
            continue
        paging = reading.paging
        if "since" in placeholders(reading.call) and verb == "read" and not spec.entity.modified:
            raise source.refuse((*place, verb), "{since} needs 'modified': the field that says when a record last changed")
        if paging is None:
            continue
        at, filled = (
            (*place, verb, "paging"),
            placeholders(reading.call) | (placeholders(paging.then) if paging.then else set()),
        )
        if paging.by == "cursor" and paging.next is None:
            raise source.refuse(at, "'next' is missing: where the answer holds the next cursor")
        if paging.by != "link" and paging.by not in filled:
            raise source.refuse(at, f"nothing in the request says {{{paging.by}}}, so each page would be the first")
        if paging.by == "offset" and "size" in filled and paging.overlap >= paging.size:
            raise source.refuse((*at, "overlap"), "'overlap' must be less than 'size'")


def _check_writes(source: Document, place: Place, spec: "EntitySpec") -> None:
    if "upsert" in spec.writes and not spec.entity.upsert_key:
        raise source.refuse((*place, "upsert"), "'upsert_key' is missing: the field by which the record is found")
    for verb in ("update", "delete"):
        if verb in spec.writes and "id" not in placeholders(spec.writes[verb].call):
            raise source.refuse((*place, verb), "nothing in the request says {id}")
    create = spec.writes.get("create")
    if create and create.stamp and not spec.probe:
        raise source.refuse((*place, "create", "stamp"), "'stamp' needs 'probe', which searches for it")
    if create and create.id is None and spec.probe is None:
        raise source.refuse((*place, "create"), "'id' is missing: where the answer holds the new record's id")
    if spec.writes or spec.batch:
        _check_places(source, place, spec)


def _check_places(source: Document, place: Place, spec: "EntitySpec") -> None:
    """No writable field inside another one: of the two, the one that is put in first would be lost."""
    written = sorted((spec.fields[field.name].write_path, field.name) for field in spec.entity.fields if field.writable)
    for (outer, other), (inner, name) in itertools.pairwise(written):
        if inner[: len(outer)] == outer:
            raise source.refuse(
                (*place, "fields", name),
                f"it is written inside the place of '{other}': one of the two needs 'writable: false'",
            )


def capabilities(manifest: "Manifest") -> Capabilities:
    specs = tuple(manifest.entities.values())
    written = [spec for spec in specs if spec.writes or spec.batch]
    conditional = [spec for spec in written if _conditional(spec)]
    return Capabilities(
        delta_read=all("since" in placeholders(spec.read.call) for spec in specs),
        deletes=all((spec.deleted is not None and spec.deleted_listed) or spec.tombstones is not None for spec in specs),
        write=bool(written),
        upsert_key=bool(written) and all("upsert" in spec.writes for spec in written),
        conditional_write=bool(written) and len(conditional) == len(written),
        idempotency=_idempotency(written),
        batch_size=min((spec.batch.size for spec in written if spec.batch), default=1),
        concurrency=manifest.concurrency,
    )


def _conditional(spec: "EntitySpec") -> bool:
    update = spec.writes.get("update")
    return update is not None and "version" in placeholders(update.call)


def _idempotency(written: list["EntitySpec"]) -> Literal["header", "external_id", "probe_field"] | None:
    """The way in which creates of every written entity are recognised when they are sent twice."""
    if written and all(_creates_keyed(spec) for spec in written):
        return "header"
    if written and all("upsert" in spec.writes for spec in written):
        return "external_id"
    return "probe_field" if written and all(spec.probe is not None for spec in written) else None


def _creates_keyed(spec: "EntitySpec") -> bool:
    create = spec.writes.get("create")
    if create is not None:
        return create.keyed
    return spec.batch is not None and spec.batch.keyed
