"""Listings of what other systems and other people have written."""

import pytest
from click.testing import CliRunner, Result

from integration_pipelines.cli import main
from integration_pipelines.cli_output import show


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("text", ["[/x]", "[red]A-1[/red]", "a[link=https://evil.example]b", ":warning: A:b:c"])
def test_brackets_and_colons_of_a_value_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], text: str) -> None:
    show([{"record": text}], {"record": "record"}, json=False)
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("text", ["A\x1b]0;title\x07", "A\x1b[2J", "A\x9b2J", "A\u202e1", "A\ud800", "A\rB"])
def test_a_value_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], text: str) -> None:
    show([{"record": text}], {"record": "record"}, json=False)
    out = capsys.readouterr().out
    assert ascii(text[1])[1:-1] in out
    assert text[1] not in out


def test_an_error_cannot_steer_the_terminal(environment: object) -> None:
    assert environment
    shown = run("connector", "list", "--tenant", "no\x1b[2J", code=1).output
    assert "no\\x1b[2J" in shown
    assert "\x1b" not in shown
