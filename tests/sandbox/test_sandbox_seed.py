"""The records of a fresh org."""

from connector_resources.sandbox.salesforce import ids
from connector_resources.sandbox.salesforce.schema import load_schema
from connector_resources.sandbox.salesforce.seed import REFERENCE, Seed


def _seed(seed: int, accounts: int = 200, contacts: int = 400) -> Seed:
    return Seed(load_schema(), seed, accounts, contacts)


def test_the_same_seed_gives_the_same_records_and_another_seed_gives_others() -> None:
    assert repr(_seed(7).tables()) == repr(_seed(7).tables())
    assert repr(_seed(7).tables()) != repr(_seed(8).tables())


def test_there_are_as_many_records_as_were_asked_for() -> None:
    tables = _seed(1, 5000, 12000).tables()
    assert (len(tables["Account"]), len(tables["Contact"])) == (5000, 12000)


def test_every_value_fits_its_field() -> None:
    schema = load_schema()
    for sobject, table in _seed(3, 2000, 4000).tables().items():
        fields = schema[sobject].fields
        for record in table.values():
            for name, value in record.items():
                assert name in fields
                assert value is not None
                assert fields[name].type == "textarea" or "\n" not in str(value)
                assert not fields[name].length or len(value) <= fields[name].length, (name, value)


def test_records_are_varied_as_real_ones_are() -> None:
    tables = _seed(3, 2000, 4000).tables()
    accounts, contacts = tables["Account"].values(), tables["Contact"].values()
    assert len({account["BillingCountry"] for account in accounts}) == 8
    assert any(account.get("BillingPostalCode", "").startswith("0") for account in accounts)
    assert any("Phone" not in account for account in accounts)
    assert any(not account["Name"].isascii() for account in accounts)
    assert any(round(account.get("AnnualRevenue", 0) * 100) % 100 for account in accounts)
    with_account = sum("AccountId" in contact for contact in contacts)
    assert 0.9 < with_account / len(contacts) < 1
    stamps = [account["SystemModstamp"] for account in accounts]
    assert len(set(stamps)) < len(stamps)  # loads in bulk share an instant
    assert max(stamps) <= REFERENCE.strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def test_an_id_of_fifteen_characters_becomes_the_id_that_salesforce_gives() -> None:
    for full in ("0015500001QdZPKAA3", "0035500001H9kZuAAJ", "0035500001H9ka0AAB", "001P000001vkheIIAQ"):
        assert ids.with_suffix(full[:15]) == full
        assert ids.normal(full[:15]) == ids.normal(full) == full
    assert ids.normal("0015500001QdZPKAA4") is None
    assert ids.normal("not an id") is None
