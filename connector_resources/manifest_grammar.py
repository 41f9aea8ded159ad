"""What a manifest may say: the one table behind its parser (manifest.py) and its JSON Schema."""

from collections.abc import Mapping
from typing import Any

from connector_resources.contract import FieldType
from connector_resources.grammar import Anything, Either, Flag, Form, Key, ListOf, MapOf, Table, Text, Whole, json_schema

KINDS = ("rest", "soap", "graphql")
WORDS = ("record", "moved", "gone", "authentication", "configuration", "rate", "unavailable", "contract", "cost")
PAGINGS = ("cursor", "link", "offset", "page")

TEXT = Text()
NAME = Text(pattern=r"[A-Za-z_][A-Za-z0-9_]*", like="a name of letters without accents, digits and underscores")
PATH = Either((Text(pattern=r"\S+", like="a path like data.items"), ListOf(TEXT)))
PLACE = Either((*PATH.forms, Table({"header": Key(TEXT, "the header of the answer that holds it", needed=True)})))
VALUES = ListOf(Anything())

_FIELD = Table(
    {
        "type": Key(Text(choices=tuple(FieldType)), "what its values are; nothing is guessed", needed=True),
        "path": Key(PATH, "where it stands in a record (default: its name)"),
        "write_path": Key(
            PATH, "where it stands in what is written (default: `path`); not inside the place of another writable field"
        ),
        "label": Key(TEXT, "its name for people"),
        "personal": Key(Flag(), "whether it is personal data; what is not declared is masked"),
        "nullable": Key(Flag(), "false: every record has it"),
        "writable": Key(Flag(), "false: it is read only"),
        "computed": Key(Flag(), "true: the system sets it itself"),
        "unique": Key(Flag(), "true: no two records share a value"),
        "max_length": Key(Whole(1), "of a string, in characters"),
        "scale": Key(Whole(0, 18), "digits of a decimal behind the point"),
        "choices": Key(ListOf(TEXT), "the only values of a string"),
        "references": Key(ListOf(TEXT), "the entities whose ids it may hold"),
        "currency": Key(NAME, "for money, the field that holds the ISO 4217 code"),
        "format": Key(
            Text(pattern=r"iso|seconds|millis|.*%.*", like="iso, seconds, millis, or a pattern like %d.%m.%Y"),
            "how a date or an instant is written (default: iso)",
        ),
        "zone": Key(TEXT, "the time zone of instants that name none, like Europe/Berlin"),
        "lenient": Key(Flag(), "true: take a value of another JSON type if it can be read exactly as this one"),
        "send": Key(Text(choices=("number", "text")), "how a decimal or an integer is written (default: number)"),
    }
)
_PAGING_CALL = "asks for the further pages where that is another operation"


def _call(kind: str) -> dict[str, Key]:
    """One request."""
    if kind == "soap":
        return {
            "operation": Key(TEXT, "the operation's name in the WSDL", needed=True),
            "arguments": Key(MapOf(Anything()), "its arguments, with placeholders"),
        }
    if kind == "graphql":
        return {
            "query": Key(TEXT, "the query or mutation", needed=True),
            "variables": Key(MapOf(Anything()), "its variables, with placeholders"),
        }
    return {
        "method": Key(Text(choices=("GET", "POST", "PUT", "PATCH", "DELETE")), "the HTTP method"),
        "path": Key(
            Text(pattern=r"/\S*", like="a path like /v1/customers"), "the path behind the connector's URL", needed=True
        ),
        "params": Key(MapOf(Anything()), "query parameters, with placeholders; a list repeats its parameter"),
        "headers": Key(MapOf(TEXT), "headers, with placeholders"),
        "body": Key(Anything(), "the body, with placeholders; a text that needs several is left out where one has no value"),
        "encode": Key(Text(choices=("json", "form")), "how the body is written (default: json)"),
    }


def _reading(call: Mapping[str, Key]) -> dict[str, Key]:
    since = Table(
        {
            "format": Key(
                Text(
                    pattern=r"iso|seconds|millis|date|.*%.*",
                    like="iso, seconds, millis, date, or a pattern like %Y-%m-%d %H:%M:%S",
                ),
                "how {since} is written (default: iso)",
            ),
            "zone": Key(TEXT, "the zone of a {since} that names none (default: that of the instants of `modified`, or UTC)"),
            "start": Key(
                Text(pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}", like="a day like 1970-01-01"),
                "what {since} is where all records are wanted (default: nothing, which leaves its key out)",
            ),
            "inclusive": Key(Flag(), "false where the other side leaves out what changed at exactly {since} (default: true)"),
        }
    )
    paging = Table(
        {
            "by": Key(Text(choices=PAGINGS), "how one page leads to the next", needed=True),
            "next": Key(PLACE, "where the answer holds the next cursor or link (default for a link: the Link header)"),
            "more": Key(PATH, "where the answer says whether there is more"),
            "total": Key(PATH, "where the answer says how many records (of `page`: pages) there are"),
            "size": Key(Whole(1, 10_000), "records a page, as {size} (default: 100)"),
            "first": Key(Whole(0), "number of the first page (default: 1) or record (default: 0)"),
            "overlap": Key(Whole(0, 100), "of `offset`: records read twice, to notice that pages shifted (default: 1)"),
            "then": Key(Table(dict(call)), _PAGING_CALL),
        }
    )
    return dict(call) | {
        "records": Key(PATH, "where the answer holds the list of records, like edges.*.node (default: it is the list)"),
        "paging": Key(paging, "how to get all pages (default: there is one)"),
        "since": Key(since, "how {since} is written"),
    }


def _writing(call: Mapping[str, Key]) -> tuple[dict[str, Key], dict[str, Key], dict[str, Key]]:
    """Of one record, of several, and of the search for one that was perhaps written."""
    write = dict(call) | {
        "id": Key(PLACE, "where the answer holds the record's id"),
        "version": Key(PLACE, "where it holds the version token"),
        "refusals": Key(
            PATH, "a list in the answer that is empty where all went well (userErrors), or a code that is not there then"
        ),
        "any_version": Key(
            TEXT, "what {version} is in a write whatever the version (default: nothing, which leaves its key out)"
        ),
        "stamp": Key(
            PATH,
            "where {intent} is written into the record, so that `probe` can search for it; no value of a field can go there",
        ),
    }
    batch = dict(call) | {
        "size": Key(Whole(1, 10_000), "records a call", needed=True),
        "actions": Key(ListOf(Text(choices=("create", "update", "delete"))), "what it can do (default: all three)"),
        "item": Key(Anything(), "one of {items}, with placeholders", needed=True),
        "results": Key(PATH, "where the answer holds a result for each item, in order (default: it is the list)"),
        "id": Key(PATH, "where a result holds the id"),
        "version": Key(PATH, "where a result holds the version token"),
        "status": Key(PATH, "where a result holds its HTTP status"),
        "code": Key(PATH, "where a result holds its error code"),
        "ok": Key(
            PATH,
            "where a result says that it went well: true or 1, and false or 0, also as texts (default: status below 300, and "
            "no code)",
        ),
    }
    probe = dict(call) | {
        "records": Key(PATH, "where the answer holds what was found"),
        "id": Key(PATH, "where it holds the id (default: the key's path)"),
        "version": Key(PATH, "where it holds the version token (default: the entity's)"),
    }
    return write, batch, probe


def _entity(kind: str) -> Table:
    call = _call(kind)
    reading = _reading(call)
    deleted = Table(
        {
            "path": Key(PATH, "where a record says that it is deleted", needed=True),
            "values": Key(VALUES, "what it says then (default: true)"),
            "listed": Key(Flag(), "false: only `by_id` brings deleted records, and `read` leaves them out (default: true)"),
        }
    )
    tombstones = reading | {
        "id": Key(PATH, "where an entry holds the id of the deleted record (default: the entry is the id)"),
        "at": Key(PATH, "where it holds the instant"),
    }
    one = dict(call) | {
        "records": Key(PATH, "where the answer holds the record or the list of them (default: it is the record)"),
        "many": Key(Whole(1, 1000), "how many {ids} one call may ask for (default: 1, as {id})"),
    }
    write, batch, probe = _writing(call)
    return Table(
        {
            "label": Key(TEXT, "its name for people"),
            "fields": Key(MapOf(_FIELD, NAME), "its fields", needed=True),
            "key": Key(NAME, "the field that is the record's id", needed=True),
            "modified": Key(NAME, "the field that says when it last changed; watermarks are made of it"),
            "active": Key(NAME, "the boolean field that deactivation clears"),
            "upsert_key": Key(NAME, "the unique field by which `upsert` finds the record"),
            "version": Key(PATH, "where a record holds its version token (default: `modified`)"),
            "deleted": Key(deleted, "how a record says that it is deleted"),
            "read": Key(Table(reading), "reads all records, or those changed at or after {since}", needed=True),
            "tombstones": Key(Table(tombstones), "reads what was deleted at or after {since}"),
            "by_id": Key(Table(one), "reads records by their ids"),
            "create": Key(Table(write), "makes a record from {record}"),
            "update": Key(Table(write), "changes record {id} to {record}"),
            "delete": Key(Table(write), "deletes record {id}"),
            "upsert": Key(Table(write), "makes or changes the record with {key}: what is sent twice makes one record"),
            "batch": Key(Table(batch), "writes several records in one call"),
            "probe": Key(Table(probe), "finds a record that was perhaps written, by {intent} or {record.FIELD}"),
        }
    )


def _auth(kind: str) -> Table:
    places = ("header", "username_token", "username_token_digest") if kind == "soap" else ("header",)
    return Table(
        {
            "api_key": Key(
                Table(
                    {
                        "in": Key(Text(choices=("header", "query", "bearer")), "where the key goes", needed=True),
                        "name": Key(TEXT, "the header's or parameter's name"),
                        "prefix": Key(TEXT, "what stands before the key in a header"),
                    }
                ),
                "credential api_key",
            ),
            "basic": Key(
                Table({"in": Key(Text(choices=places), "where they go (default: header)")}),
                "credentials username and password",
            ),
            "oauth2": Key(
                Table(
                    {
                        "token_url": Key(TEXT, "path behind the connector's URL, or an https:// address", needed=True),
                        "scopes": Key(ListOf(TEXT), "what to ask for"),
                        "parameters": Key(MapOf(TEXT), "what else the token request says (audience, resource)"),
                        "authorize_url": Key(TEXT, "the consent page, likewise, where people let the connector in"),
                        "device_url": Key(TEXT, "where device codes come from (RFC 8628), likewise"),
                        "refresh_twice": Key(
                            Flag(), "true: a refresh may be sent again whose answer was lost (default: false)"
                        ),
                        "client": Key(
                            Text(choices=("post", "basic", "private_key_jwt")),
                            "how client_id and client_secret are sent, or that a signed assertion takes the secret's place",
                        ),
                    }
                ),
                "credentials client_id, client_secret, and refresh_token where there is one",
            ),
            "certificate": Key(Table({}), "credentials certificate and private_key (PEM)"),
            "none": Key(Table({}), "no credentials: the API is open to whoever reaches it"),
        }
    )


_LIMITS = Table(
    {
        "per_second": Key(Whole(1), "calls"),
        "per_minute": Key(Whole(1), "calls"),
        "concurrency": Key(Whole(1, 100), "calls at once (default: 1)"),
    }
)
_ERRORS = Table(
    {
        "code": Key(PATH, "where an error's body holds its code"),
        "in_success": Key(Flag(), "true: a code there is an error even if the status is 200"),
        "table": Key(
            ListOf(
                Table(
                    {
                        "status": Key(Whole(200, 599), "the HTTP status"),
                        "code": Key(TEXT, "the code"),
                        "means": Key(Text(choices=WORDS), "what happens next", needed=True),
                        "says": Key(TEXT, "a sentence after the system's name, like: does not take this card"),
                    }
                )
            ),
            "what a status or code means; the first that fits",
        ),
    }
)


def manifest_form(kind: str) -> Table:
    """The whole manifest of this kind."""
    soap = {
        "wsdl": Key(Text(pattern=r"/\S*", like="a path like /service?wsdl"), "path of the WSDL", needed=True),
        "endpoint": Key(Text(pattern=r"/\S*", like="a path like /service"), "path of the service, if not the WSDL's own"),
        "service": Key(TEXT, "the service in the WSDL (default: the first)"),
        "port": Key(TEXT, "its port (default: the first)"),
    }
    graphql = {"endpoint": Key(Text(pattern=r"/\S*", like="a path like /graphql"), "where queries go", needed=True)}
    return Table(
        {
            "kind": Key(Text(choices=KINDS), "rest, soap or graphql", needed=True),
            "name": Key(Text(pattern=r"[a-z][a-z0-9_-]{1,48}", like="a name like my-shop"), "the connector type", needed=True),
            "title": Key(TEXT, "its name for people", needed=True),
            "documentation": Key(Text(pattern=r"https://\S+", like="an https:// address"), "the vendor's page on this API"),
            "headers": Key(MapOf(TEXT), "headers of every request"),
            "auth": Key(_auth(kind), "the authentication methods it takes", needed=True),
            "test": Key(
                Table(_call(kind) | {"account": Key(PATH, "where the answer says who we are there")}),
                "a cheap call that proves the credentials",
                needed=True,
            ),
            "limits": Key(_LIMITS, "what the other side allows"),
            "errors": Key(_ERRORS, "what its refusals mean"),
            "entities": Key(MapOf(_entity(kind), NAME), "what can be read and written", needed=True),
        }
        | ({"soap": soap, "graphql": graphql}.get(kind, {}))
    )


def form_of(kind: Any) -> Form:
    """The form of this kind; of an unknown kind one that says which there are."""
    return manifest_form(kind if kind in KINDS else KINDS[0])


def published() -> dict[str, Any]:
    """The JSON Schema of manifests of all kinds (draft 2020-12)."""
    branches = [
        {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": json_schema(manifest_form(kind))}
        for kind in KINDS
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Connector manifest",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(KINDS)}},
        "allOf": branches,
    }
