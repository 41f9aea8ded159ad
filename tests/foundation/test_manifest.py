"""Manifests: what they may say, how a wrong one is refused, and what follows from a right one."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from connector_resources.errors import ConfigurationError
from connector_resources.lined_yaml import load
from connector_resources.manifest import Header
from connector_resources.manifest_grammar import KINDS, manifest_form, published
from connector_resources.manifest_parse import parse
from connector_resources.registry import connector_class, connector_types, manifest_class, read_manifest
from connector_resources.skeletons import skeleton
from connector_resources.templates import NOTHING, fill, path, query

SMALL = """\
kind: rest
name: small
title: Small
auth: {api_key: {in: header, name: X-Key}}
test: {path: /me}
entities:
  thing:
    key: id
    fields:
      id: {type: string}
      at: {type: instant}
      on: {type: boolean}
    read: {path: /things, params: {limit: "{size}"}}
"""


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        ("kind: rest", "kind: rset", r"line 1, kind: there is no 'rset' here; did you mean 'rest'\?"),
        ("title: Small", "titel: Small", r"line 3, titel: unknown key 'titel'; did you mean 'title'\?"),
        ("title: Small\n", "", "line 1: 'title' is missing: its name for people"),
        ("title: Small", "title: 7", "line 3, title: expected text"),
        ("name: small", "name: Small One", "line 2, name: expected a name like my-shop"),
        ("type: boolean", "type: bool", r"line 12, entities.*on\.type: there is no 'bool' here; did you mean 'boolean'\?"),
        ("on: {type: boolean}", "on: {type: boolean, scale: 2}", "line 12.*'scale' is for the type decimal, and"),
        ("at: {type: instant}", "at: {type: instant, zone: Berlin}", "line 11.*expected a time zone like Europe/Berlin"),
        ("at: {type: instant}", "at: {type: date, format: millis}", "line 11.*a civil date has none"),
        ("{size}", "{sizze}", r"line 13.*nothing fills \{sizze\} here; did you mean 'size'\?"),
        ("{size}", "{since}", r"line 13.*\{since\} needs 'modified'"),
        ("key: id", "key: di", r"line 8.*there is no field 'di'; there is at, id, on"),
        ("key: id", "key: on", "line 8.*'key' must name a field of type string, and 'on' is boolean"),
        ("key: id", "key: id\n    modified: on", "line 9.*'modified' must name a field of type instant"),
        ("path: /things", "path: things", "line 13.*expected a path like /v1/customers"),
        ("params", "paging: {by: cursor}, params", "line 13.*'next' is missing"),
        ("params", "paging: {by: offset}, params", r"line 13.*nothing in the request says \{offset\}, so"),
        ("params", "paging: {by: pages}, params", r"line 13.*there is no 'pages' here; did you mean 'page'\?"),
        ("in: header, name: X-Key", "in: header", "line 4.*'name' is missing: the header or parameter"),
        ("{api_key: {in: header, name: X-Key}}", "{}", "line 4.*no authentication method"),
        ("key: id", "key: id\n    update: {method: PATCH, path: /things}", r"line 9.*nothing in the request says \{id\}"),
        ("key: id", "key: id\n    create: {method: POST, path: /things}", "line 9.*'id' is missing: where the answer holds"),
        ("key: id", 'key: id\n    create: {method: POST, path: /, body: "{record.ad}"}', "line 9.*there is no field 'ad'"),
        ("key: id", "key: id\n    upsert: {method: PUT, path: /things}", "line 9.*'upsert_key' is missing"),
        ("title: Small", "title: Small\nwsdl: /x", "line 4, wsdl: unknown key 'wsdl'"),
        ("title: Small", "title: Small\ntitle: Small", "line 4: 'title' is there twice"),
        ("title: Small", "title: Small\nlimits: {per_second: 0}", "line 4.*expected a whole number from 1"),
        ("title: Small", "title: Small\nerrors: {table: [{means: record}]}", "line 4.*give 'status', 'code' or both"),
        ("title: Small", "title: Small\nerrors: {table: [{status: 400, means: retry}]}", "line 4.*there is no 'retry'"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_with_line_key_and_what_was_expected(old: str, new: str, refusal: str) -> None:
    assert old in SMALL
    with pytest.raises(ConfigurationError, match=f"^small.yaml(, |: ){refusal}"):
        parse("small.yaml", SMALL.replace(old, new, 1))


def test_the_smallest_manifest_promises_nothing_that_it_does_not_describe() -> None:
    able = parse("small.yaml", SMALL).capabilities
    assert (able.delta_read, able.deletes, able.write, able.idempotency, able.batch_size) == (False, False, False, None, 1)


@pytest.mark.parametrize(
    ("added", "ability", "value"),
    [
        ('create: {method: POST, path: /t, id: id, headers: {Idempotency-Key: "{intent}"}}', "idempotency", "header"),
        ('upsert_key: id\n    upsert: {method: PUT, path: "/t/{key}"}', "idempotency", "external_id"),
        ('upsert_key: id\n    upsert: {method: PUT, path: "/t/{key}"}', "upsert_key", True),
        (
            'create: {method: POST, path: /t, id: id, stamp: ref}\n    probe: {path: "/t?ref={intent}"}',
            "idempotency",
            "probe_field",
        ),
        ('update: {method: PATCH, path: "/t/{id}", headers: {If-Match: "{version}"}}', "conditional_write", True),
        ("deleted: {path: gone}", "deletes", True),
        ("tombstones: {path: /gone}", "deletes", True),
        ('batch: {method: POST, path: /b, body: "{items}", size: 25, item: "{record}"}', "batch_size", 25),
    ],
)
def test_capabilities_follow_from_what_is_described(added: str, ability: str, value: Any) -> None:
    assert getattr(parse("small.yaml", SMALL.replace("key: id", f"key: id\n    {added}")).capabilities, ability) == value


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("ok", "true or 1, and false or 0, also as texts"),
        ("stamp", "no value of a field can go there"),
        ("write_path", "not inside the place of another writable field"),
        ("body", "left out where one has no value"),
    ],
)
def test_the_schema_tells_what_is_refused(key: str, told: str) -> None:
    """An editor shows it before a run does."""
    assert any(told in one["description"] for one in described(published(), key))


def described(schema: Any, key: str) -> list[dict[str, Any]]:
    """What a JSON Schema says of this key, wherever it may stand."""
    if isinstance(schema, list):
        return [one for part in schema for one in described(part, key)]
    if not isinstance(schema, dict):
        return []
    here = schema.get("properties", {}).get(key)
    return [*([here] if here and "description" in here else []), *described(list(schema.values()), key)]


def test_the_schema_and_the_parser_know_the_same_keys() -> None:
    branches = {one["if"]["properties"]["kind"]["const"]: one["then"] for one in published()["allOf"]}
    assert set(branches) == set(KINDS)
    for kind, branch in branches.items():
        assert set(branch["properties"]) == set(manifest_form(kind).keys)
        assert branch["additionalProperties"] is False
    field = branches["rest"]["properties"]["entities"]["additionalProperties"]["properties"]["fields"]["additionalProperties"]
    assert field["properties"]["type"]["enum"] == ["string", "integer", "decimal", "boolean", "date", "instant", "json"]
    assert field["required"] == ["type"]
    assert json.loads(json.dumps(published())) == published()


def test_every_packaged_manifest_is_right_and_no_field_of_it_is_undeclared() -> None:
    folder = resources.files("connector_resources") / "manifests"
    names = [file.name for file in folder.iterdir() if file.name.endswith(".yaml") and not file.name.startswith("_")]
    assert "sandbox-rest.yaml" in names
    for name in names:
        manifest = read_manifest(folder / name)
        assert manifest_class(manifest).capabilities == manifest.capabilities
        for spec in manifest.entities.values():
            assert [field.name for field in spec.entity.fields if field.personal is None] == [], name
        if not name.startswith("sandbox"):
            assert "not verified against the vendor" in (folder / name).read_text("utf-8")


def test_a_path_may_be_a_list_where_a_name_has_a_point_in_it() -> None:
    text = SMALL.replace("params", 'paging: {by: link, next: ["@odata.nextLink"]}, params')
    paging = parse("small.yaml", text).entities["thing"].read.paging
    assert paging is not None
    assert paging.next == ("@odata.nextLink",)
    default = parse("small.yaml", SMALL.replace("params", "paging: {by: link}, params")).entities["thing"].read.paging
    assert default is not None
    assert default.next == Header("Link")


def test_a_folder_of_manifests_adds_types(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "_draft.yaml").write_text("not: one")
    assert {"small", "salesforce", "sandbox-rest"} <= set(connector_types(tmp_path))
    assert "_draft" not in connector_types(tmp_path)
    assert connector_class("small", tmp_path).type == "small"
    with pytest.raises(ConfigurationError, match=r"There is no connector type 'smal'; did you mean 'small'\?"):
        connector_class("smal", tmp_path)


def test_a_file_must_be_named_like_its_type_and_a_type_must_be_alone(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(SMALL)
    with pytest.raises(ConfigurationError, match=r"names the type 'small'; call the file small\.yaml"):
        connector_class("other", tmp_path)
    (tmp_path / "salesforce.yaml").write_text(SMALL)
    with pytest.raises(ConfigurationError, match="'salesforce' is provided twice"):
        connector_types(tmp_path)
    (tmp_path / "salesforce.yaml").unlink()
    (tmp_path / "other.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="save it as UTF-8"):
        connector_class("other", tmp_path)


def test_other_packages_bring_classes_and_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_connectors"
    package.mkdir()
    (package / "__init__.py").write_text("from connector_resources.salesforce.resource import Salesforce as Theirs\n")
    (package / "small.yaml").write_text(SMALL)
    installed = tmp_path / "their_connectors-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: their-connectors\nVersion: 1.0\n")
    points = (
        "small = their_connectors",
        "theirs = their_connectors:Theirs",
        "odd = their_connectors:__name__",
        "lost = no_such",
    )
    (installed / "entry_points.txt").write_text("\n".join(("[integration.connectors]", *points)))
    monkeypatch.syspath_prepend(tmp_path)
    assert connector_types()["small"].origin == "their-connectors"
    assert (connector_class("small").type, connector_class("theirs").type) == ("small", "salesforce")
    with pytest.raises(ConfigurationError, match="is no Connector and no package of manifests"):
        connector_class("odd")
    with pytest.raises(ConfigurationError, match="'lost' cannot be loaded from its package"):
        connector_class("lost")


def test_a_placeholder_takes_the_value_as_it_is_and_without_one_its_key_is_left_out() -> None:
    values = {"size": 5, "record": {"a": None, "b": [1]}, "since": None}
    template = {
        "n": "{size}",
        "text": "n={size}",
        "all": "{record}",
        "a": "{record.a}",
        "gone": "x{since}",
        "list": ["{since}", 1],
    }
    assert fill(template, values) == {"n": 5, "text": "n=5", "all": {"a": None, "b": [1]}, "a": None, "list": [1]}
    assert fill("{record.c}", values) is NOTHING
    assert path("X", "/a/{id}/b", {"id": "ü/../?"}) == "/a/%C3%BC%2F..%2F%3F/b"


def test_a_query_parameter_that_is_a_list_is_said_once_for_each_item() -> None:
    values = {"ids": ["7", "8"], "since": NOTHING}
    template = {"id": ["{ids}"], "ids": "{ids}", "with": ["lines", "tax"], "from": ["{since}"], "deep": True}
    assert query(template, values) == {"id": ["7", "8"], "ids": "7,8", "with": ["lines", "tax"], "from": [], "deep": "true"}


def test_the_readme_shows_the_manifest_that_is_written() -> None:
    readme = (resources.files("connector_resources") / "README.md").read_text("utf-8")
    shown = readme.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert parse("my-shop.yaml", shown) == parse("my-shop.yaml", skeleton("my-shop", "rest")["my-shop.yaml"])


def test_the_template_says_every_key_that_there_is() -> None:
    text = (resources.files("connector_resources") / "manifests" / "_template.yaml").read_text("utf-8")
    parse("_template.yaml", text)
    content, _ = load(text)
    assert set(manifest_form("rest").keys) - {"documentation"} <= set(content)
