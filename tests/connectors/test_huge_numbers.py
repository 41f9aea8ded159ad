"""Numbers of a few characters that would fill the memory, or take hours, written out."""

import subprocess
import sys

import pytest

from connector_resources.answers import Answer
from connector_resources.errors import ContractError

_READ = """
from decimal import Decimal
from connector_resources.contract import Field, FieldType
from connector_resources.errors import ContractError
from connector_resources.manifest import FieldSpec
from connector_resources.values import column

spec = FieldSpec(Field("points", FieldType("{kind}")), ("points",), ("points",), format="{form}", lenient=True)
try:
    column("order", spec, [Decimal("{number}")])
except ContractError as refused:
    print(refused)
"""


@pytest.mark.parametrize("number", ["1e500000000", "1e999999999999999999", "-1e31"])
@pytest.mark.parametrize(("kind", "form"), [("integer", "iso"), ("instant", "seconds"), ("instant", "millis")])
def test_a_number_that_is_too_large_for_its_field_is_refused_at_once(kind: str, form: str, number: str) -> None:
    """In a process of its own: where Python writes it out, nothing can interrupt it but a signal that kills."""
    script = _READ.format(kind=kind, form=form, number=number)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert f"A value of order.points is no {kind}" in done.stdout


def test_json_with_an_exponent_that_no_number_has_is_no_json() -> None:
    answer = Answer("Acme", "/orders", 200, {"content-type": "application/json"}, b'{"total": 1e99999999999999999999}')
    with pytest.raises(ContractError, match="Acme answered /orders with status 200 and application/json instead of JSON"):
        answer.json()
