"""The entity catalogue: our own ERP's, and what the grammar refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connector_resources.catalogue import CatalogueEntity, load_catalogue
from connector_resources.contract import FieldType
from connector_resources.errors import ConfigurationError

EXPECTED = [
    "customer",
    "contact_person",
    "sales_order",
    "sales_order_line",
    "delivery",
    "invoice",
    "invoice_line",
    "customer_payment",
    "credit_note",
    "vendor",
    "purchase_order",
    "purchase_order_line",
    "goods_receipt",
    "bill",
    "bill_line",
    "vendor_payment",
    "item",
    "warehouse",
    "stock_level",
    "account",
    "journal_entry",
    "journal_entry_line",
    "bank_account",
    "bank_transaction",
    "employee",
    "company",
    "currency",
    "tax_code",
    "unit_of_measure",
]

OURS = load_catalogue()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_erp_has_the_entity(name: str) -> None:
    described = OURS[name]
    assert (described.entity.name, described.schema, described.tenant_column) == (name, "erp", "tenant_id")
    assert len(described.entity.fields) >= 4


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_field_says_whether_it_is_personal(name: str) -> None:
    assert [field.name for field in OURS[name].entity.fields if field.personal is None] == []


@pytest.mark.parametrize("name", ["customer", "contact_person", "vendor", "employee"])
def test_what_names_a_person_is_personal(name: str) -> None:
    entity = OURS[name].entity
    for word in ("first_name", "last_name", "email", "phone", "name", "birth_date", "iban"):
        field = entity.field(word)
        assert field is None or field.personal is True, f"{name}.{word}"


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_entity_has_a_key_and_a_watermark(name: str) -> None:
    entity = OURS[name].entity
    key, modified = entity.field(entity.key), entity.field(entity.modified or "")
    assert key is not None
    assert modified is not None
    assert (key.writable, key.computed, key.unique, key.nullable) == (False, True, True, False)
    assert (modified.type, modified.computed, modified.writable) == (FieldType.INSTANT, True, False)


def test_documents_have_lines_that_point_back_at_them() -> None:
    for name in (
        "sales_order",
        "invoice",
        "purchase_order",
        "bill",
        "journal_entry",
        "delivery",
        "credit_note",
        "goods_receipt",
    ):
        (lines,) = OURS[name].entity.lines
        parent = OURS[lines.entity].entity.field(lines.parent)
        assert parent is not None
        assert parent.references == (name,)
        assert lines.key is not None


@pytest.mark.parametrize("name", sorted(OURS))
def test_money_is_decimal_and_its_currency_a_field_of_the_same_record(name: str) -> None:
    entity = OURS[name].entity
    for field in entity.fields:
        if field.currency:
            money = entity.field(field.currency)
            assert field.type is FieldType.DECIMAL
            assert money is not None
            assert money.type is FieldType.STRING


Refused = Callable[[str], str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """The sentence with which a catalogue of this text is refused; its file is called erp.yaml."""

    def load(text: str) -> str:
        (tmp_path / "erp.yaml").write_text(text)
        with pytest.raises(ConfigurationError) as refusal:
            load_catalogue(tmp_path)
        return str(refusal.value)

    return load


def entity(*fields: str, more: str = "") -> str:
    """One entity `thing` whose fields begin in line 6."""
    head = f"module: m\nentities:\n  thing:\n    {more or 'label: Thing'}\n    fields:\n"
    return head + "".join(f"      {field}\n" for field in fields)


GOOD = "name: {type: string, personal: false}"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["name: {type: strng}"], "erp.yaml, line 6, thing.name.type: there is no type 'strng'; did you mean 'string'?"),
        ([GOOD, "other: {typ: string}"], "erp.yaml, line 7, thing.other.typ: unknown key 'typ'; did you mean 'type'?"),
        ([GOOD, "other: {label: x}"], "erp.yaml, line 7, thing.other: 'type' is missing"),
        ([GOOD, "other: text"], "erp.yaml, line 7, thing.other: expected a mapping"),
        (["name: {type: string, personal: NO}"], "erp.yaml, line 6, thing.name.personal: 'personal' must be true or false"),
        (["name: {type: string, max_length: 0}"], "erp.yaml, line 6, thing.name: 'scale' goes from 0 to 18"),
        (["name: {type: string, max_length: true}"], "line 6, thing.name.max_length: 'max_length' must be a whole number"),
        (["n: {type: decimal, scale: 19}"], "erp.yaml, line 6, thing.n: 'scale' goes from 0 to 18"),
        (["n: {type: integer, scale: 2}"], "erp.yaml, line 6, thing.n.scale: 'scale' is for the type decimal"),
        (["n: {type: integer, choices: [a]}"], "erp.yaml, line 6, thing.n.choices: 'choices' is for the type string"),
        (["c: {type: string, choices: [1, 2]}"], "erp.yaml, line 6, thing.c.choices: 'choices' must be texts"),
        (["c: {type: string, references: [1]}"], "erp.yaml, line 6, thing.c.references: 'references' must name entities"),
        (
            [GOOD, "c: {type: string, references: thingy}"],
            "line 7, thing.c.references: there is no entity 'thingy'; did you mean 'thing'?",
        ),
        (["p: {type: decimal, currency: code}"], "erp.yaml, line 6, thing.p.currency: 'currency' must name the text field"),
        (["id: {type: integer}"], "erp.yaml, line 6, thing.id: 'id' is the key and needs no description"),
        (["na'me: {type: string}"], "erp.yaml, line 6, thing.na'me: the name 'na'me' must consist of letters"),
        (["name: {type: string, column: 'a:b'}"], "erp.yaml, line 3, thing: 'a:b' cannot be the name of"),
        (["name: {type: string}", "name: {type: string}"], "erp.yaml: line 7: 'name' is there twice"),
        (["name: {type: !!str string}"], "erp.yaml: line 6: tags"),
    ],
)  # fmt: skip
def test_a_field_is_refused_by_file_line_entity_and_field(refused: Refused, fields: list[str], sentence: str) -> None:
    assert sentence in refused(entity(*fields))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("tabel: x", "line 4, thing: unknown key 'tabel'; did you mean 'table'?"),
        ("modified: name", "line 4, thing: 'modified' must name a field of type instant"),
        ("active: name", "line 4, thing: 'active' must name a field of type boolean"),
        ("key: {name: number}", "line 4, thing: 'column' is missing"),
        ("immutable_when: {field: nam, values: [x]}", "line 4, thing: no field 'nam'; did you mean 'name'?"),
        ("lines: {name: {entity: thing, parent: name}}", "thing.name: 'name' is a field already"),
        ("lines: {rows: {entity: ting, parent: name}}", "thing.rows: there is no entity 'ting'; did you mean 'thing'?"),
        ("lines: {rows: {entity: thing, parent: nam}}", "thing.rows: thing has no field 'nam'; did you mean 'name'?"),
        ("lines: {rows: {entity: thing, parent: name, key: n}}", "thing.rows: thing has no field 'n'"),
    ],
)
def test_an_entity_is_refused_by_file_line_and_entity(refused: Refused, more: str, sentence: str) -> None:
    found = refused(entity(GOOD, more=more))
    assert found.startswith("erp.yaml, line 4")
    assert sentence in found


def test_a_choice_that_does_not_exist_cannot_make_records_immutable(refused: Refused) -> None:
    text = entity("status: {type: string, choices: [draft, posted]}", more="immutable_when: {field: status, values: [postd]}")
    assert "thing: 'postd' is no choice of status; did you mean 'posted'?" in refused(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "erp.yaml, line 1: expected a mapping"),
        ("- a", "erp.yaml, line 1: expected a mapping"),
        ("module: m\nentities: {}", "describes no entity"),
        ("module: m", "erp.yaml, line 1: 'entities' is missing"),
        ("entities: {}\nmodul: m", "erp.yaml, line 2: unknown key 'modul'; did you mean 'module'?"),
        ("module: m\nentities:\n  x: &a {fields: {}}\n  y: *a", "erp.yaml: line 3: anchors and aliases are not allowed"),
        ("module: m\nentities:\n  größe: {fields: {}}", "erp.yaml, line 3, größe: the name 'größe' must consist of letters"),
    ],
)
def test_a_file_is_refused_with_a_sentence(refused: Refused, text: str, sentence: str) -> None:
    assert sentence in refused(text)


def test_an_entity_may_be_described_once_only(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(entity(GOOD))
    with pytest.raises(ConfigurationError, match=r"b\.yaml, line 3, thing: this entity is described in a\.yaml already"):
        load_catalogue(tmp_path)


def test_a_reference_may_lead_into_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(entity("other_id: {type: string, references: other}"))
    (tmp_path / "b.yaml").write_text(entity(GOOD).replace("thing", "other"))
    assert sorted(load_catalogue(tmp_path)) == ["other", "thing"]


def test_a_catalogue_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"The catalogue .*nowhere does not exist"):
        load_catalogue(tmp_path / "nowhere")


def test_a_catalogue_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "erp.yaml").write_bytes("module: gr\xf6\xdfe".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"erp.yaml is not UTF-8 text; save it as UTF-8\."):
        load_catalogue(tmp_path)


def own(text: str, folder: Path) -> CatalogueEntity:
    (folder / "erp.yaml").write_text(text)
    return load_catalogue(folder / "erp.yaml")["thing"]


def test_the_same_grammar_describes_tables_of_ones_own(tmp_path: Path) -> None:
    found = own(
        """
module: legacy
schema: buchhaltung
tenant_column: null
entities:
  thing:
    table: T_Sache
    key: {name: number, column: S-Nr}
    modified: changed
    fields:
      name: {type: string, column: "Bezeichnung (lang)"}
      changed: {type: instant, column: geaendert_am, computed: true}
""",
        tmp_path,
    )
    assert (found.table, found.schema, found.tenant_column, found.entity.key) == ("T_Sache", "buchhaltung", None, "number")
    assert dict(found.columns) == {"number": "S-Nr", "name": "Bezeichnung (lang)", "changed": "geaendert_am"}
    assert found.entity.names == ("number", "name", "changed")


def test_an_entity_may_have_a_place_of_its_own_and_no_watermark(tmp_path: Path) -> None:
    found = own(entity(GOOD, more="modified: null\n    schema: null\n    tenant_column: firm"), tmp_path)
    assert (found.schema, found.tenant_column, found.entity.modified) == (None, "firm", None)
    assert found.entity.names == ("id", "name")


def test_a_field_that_does_not_say_whether_it_is_personal_is_masked(tmp_path: Path) -> None:
    field = own(entity("name: {type: string}"), tmp_path).entity.field("name")
    assert field is not None
    assert (field.personal, field.masked) == (None, True)
