"""What can be set, and what can go wrong in the sandbox, stands in the README."""

from pathlib import Path
from typing import get_args

from connector_resources import salesforce
from connector_resources.salesforce.resource import LIMITS
from connector_resources.sandbox.faults import Kind

README = (Path(salesforce.__file__).parents[1] / "README.md").read_text()


def test_every_key_of_the_configuration_stands_in_the_readme_with_its_default() -> None:
    for name in ("api_version", "login_url", "external_ids", "reserve_calls"):
        assert f"| `{name}` |" in README
    for name, (default, _, _) in LIMITS.items():
        [row] = [line for line in README.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"(default {default:,}" in row


def test_every_kind_of_fault_stands_in_the_readme() -> None:
    for kind in get_args(Kind):
        assert f"| `{kind}` |" in README
