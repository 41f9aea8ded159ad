"""What the org tells of itself: versions, limits, descriptions; the latter against a real org's."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from connector_resources.sandbox import Sandbox

# Ours says that it keeps cents; a real org's field keeps them and says that it does not. The rest is of no consequence.
DEPARTURES = {
    ("AnnualRevenue", "scale"),
    ("EmailBouncedReason", "permissionable"),
    ("EmailBouncedDate", "permissionable"),
    ("ForecastCategory", "defaultedOnCreate"),
    ("ForecastCategory", "picklistValues"),  # labels of their own
    ("Probability", "defaultedOnCreate"),
    ("Pricebook2Id", "defaultedOnCreate"),
    ("Pricebook2Id", "permissionable"),
}


def test_versions_are_listed_and_what_is_older_or_newer_is_refused(sandbox: Sandbox, api: httpx.Client) -> None:
    versions = httpx.get(f"{sandbox.url}/services/data", trust_env=False).json()
    assert [versions[0]["version"], versions[-1]["version"]] == ["31.0", "67.0"]
    for version in versions:
        assert api.get(f"{sandbox.url}{version['url']}").status_code == 200
    old = api.get(f"{sandbox.url}/services/data/v30.0/limits")
    assert (old.status_code, old.json()[0]["errorCode"]) == (410, "UNSUPPORTED_API_VERSION")
    assert api.get(f"{sandbox.url}/services/data/v68.0/limits").status_code == 404


def test_every_answer_counts_and_says_so(sandbox: Sandbox, api: httpx.Client) -> None:
    assert api.get("limits").headers["Sforce-Limit-Info"] == "api-usage=1/100000"
    assert api.get("sobjects/Nope").headers["Sforce-Limit-Info"] == "api-usage=2/100000"
    assert api.get("limits").json()["DailyApiRequests"] == {"Max": 100_000, "Remaining": 99_997}
    sandbox.state.api_limit = 3
    answer = api.get("limits")
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert "Retry-After" not in answer.headers


def test_the_sobject_types_are_listed_and_described(api: httpx.Client) -> None:
    listed = {entry["name"]: entry for entry in api.get("sobjects").json()["sobjects"]}
    assert {name: entry["keyPrefix"] for name, entry in listed.items()} == {
        "Account": "001",
        "Contact": "003",
        "Product2": "01t",
        "Pricebook2": "01s",
        "PricebookEntry": "01u",
        "Opportunity": "006",
        "OpportunityLineItem": "00k",
        "Order": "801",
        "OrderItem": "802",
        "User": "005",
        "Organization": "00D",
    }
    for name, entry in listed.items():
        described = api.get(f"{entry['urls']['sobject']}/describe".removeprefix("/services/data/v67.0/")).json()
        assert described["name"] == name
        assert {"Id", "SystemModstamp"} <= {field["name"] for field in described["fields"]}
        assert api.get(f"sobjects/{name}").json()["objectDescribe"] == entry
    assert api.get("query", params={"q": "SELECT Id, Name FROM Organization"}).json()["totalSize"] == 1


def _real(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Fields by name, from a describe answer that was recorded with a real org."""
    path = folder / "salesforce" / f"cumulusci-GET_sobjects_{name}_describe.yaml"
    recorded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {field["name"]: field for field in json.loads(recorded["response"]["body"]["string"])["fields"]}


@pytest.mark.parametrize("name", ["Account", "Contact", "Opportunity"])
def test_fields_are_described_as_a_real_org_describes_them(api: httpx.Client, name: str, artefacts: Path) -> None:
    real = _real(artefacts, name)
    ours = {field["name"]: field for field in api.get(f"sobjects/{name}/describe").json()["fields"]}
    external = ours["ERP_Id__c"]
    ours = {field: told for field, told in ours.items() if not field.endswith("__c")}
    assert (external["unique"], external["externalId"], external["idLookup"], external["length"]) == (True, True, True, 80)
    assert len(ours) > 20
    different = [
        (field, key, ours[field][key], value)
        for field in ours
        for key, value in real[field].items()
        if ours[field][key] != value and (field, key) not in DEPARTURES
    ]
    assert different == []


@pytest.mark.parametrize("name", ["Account", "Contact"])
def test_every_field_can_be_queried_by_its_described_name(api: httpx.Client, name: str) -> None:
    names = [field["name"] for field in api.get(f"sobjects/{name}/describe").json()["fields"]]
    [record] = api.get("query", params={"q": f"SELECT {', '.join(names)} FROM {name} LIMIT 1"}).json()["records"]
    assert list(record) == ["attributes", *names]
