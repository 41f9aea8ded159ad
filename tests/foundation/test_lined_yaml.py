"""YAML without its traps, and with line numbers."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connector_resources import lined_yaml
from connector_resources.errors import ConfigurationError


def test_a_line_is_known_for_every_key_and_item() -> None:
    _, lines = lined_yaml.load("a: 1\nb:\n  - x\n  - target: y\n\nc: {d: 2}\n")
    assert lines == {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "target"): 4, ("c",): 6, ("c", "d"): 6}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("true", True),
        ("0123", "0123"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("2024-01-31", "2024-01-31"),
        ("-12", -12),
        ("0", 0),
        ("~", None),
        ("", None),
        ("null", None),
        ("Null", "Null"),
        ("'12'", "12"),
        ("=", "="),
    ],
)
def test_text_stays_text(text: str, value: object) -> None:
    found, _ = lined_yaml.load(f"a: {text}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_keys_stay_as_they_are_written() -> None:
    assert lined_yaml.load("NO: 1\nno: 2\n007: 3\ntrue: 4\n<<: 5\nnull: 6")[0] == {
        "NO": 1, "no": 2, "007": 3, "true": 4, "<<": 5, "null": 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: 'a' is there twice"),
        ("a: {b: 1,\n b: 2}", "line 2: 'b' is there twice"),
        ("x: 1\na: &anchor 1", "line 2: anchors and aliases are not allowed"),
        ("a: *anchor", "line 1: anchors and aliases are not allowed"),
        ("a: 1\nb: !!float 1.5", r"line 2: tags \(!\) are not allowed"),
        ("a: !!python/object/apply:os.system [x]", "line 1: tags"),
        ("a: !mine {}", "line 1: tags"),
        ("a: 1\n? [x]\n: 2", "line 2: a key must be a word"),
        ("a: 1\nb: c: d", "line 2: not YAML"),
        ("a: 1\n\tb: 2", "line 2: not YAML"),
        ("a: [1, 2", "line 2: not YAML"),
        ("--- 1\n--- 2", "line 2: not YAML"),
        ("a: 1\nb: " + "9" * 5000, "line 2: the number is too long"),
        ("a: \x01", "not YAML"),
        ('a: 1\nb: "x\\0"', "line 2: a NUL cannot be stored"),
    ],
)
def test_a_trap_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        lined_yaml.load(text)


@pytest.mark.parametrize(
    "text", ["[" * 60 + "]" * 60, "[" * 100_000, "".join(f"{' ' * i}a:\n" for i in range(500)), "- " * 4000 + "x"]
)
def test_nesting_without_end_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"line [0-9]+: .*nest"):
        lined_yaml.load(text)


def test_fifty_levels_are_allowed() -> None:
    found, _ = lined_yaml.load("[" * 50 + "]" * 50)
    assert found != []


def test_nothing_is_nothing() -> None:
    assert lined_yaml.load("") == (None, {})


_WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=12,
)


@given(_VALUES)
def test_what_is_written_with_every_text_in_quotes_comes_back_as_it_was(value: Any) -> None:
    class Quoted(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
            return True

    Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
    assert lined_yaml.load(yaml.dump(value, Dumper=Quoted, allow_unicode=True))[0] == value


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        lined_yaml.load(text)
    except ConfigurationError as refusal:
        assert str(refusal)


def test_a_suggestion_names_what_is_close_else_what_there_is() -> None:
    assert lined_yaml.suggestion("uper", ["upper", "lower"]) == "; did you mean 'upper'?"
    assert lined_yaml.suggestion("ACCOUNTID", ["AccountId", "Name"]) == "; did you mean 'AccountId'?"
    assert lined_yaml.suggestion("zzz", ["b", "a"]) == "; there is a, b"
    assert lined_yaml.suggestion("zzz", [str(n) for n in range(100)]) == ""
