"""The daily budget of a connector's calls: it holds across processes, and costs no statement a call."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from connector_resources.errors import ConfigurationError, QuotaReached
from integration_pipelines.store import connectors, tenants
from integration_pipelines.store.call_budget import BLOCK, CallBudget, made_on
from integration_pipelines.store.database import Database

EVENING = datetime(2026, 3, 31, 23, 0, tzinfo=UTC)


class Desk:
    """A connector with a limit, and a clock."""

    def __init__(self, database: Database) -> None:
        self.database, self.moment = database, EVENING
        self.tenant: UUID = tenants.create(database, "acme")
        with database.tenant(self.tenant) as scope:
            self.connector = connectors.create(
                scope, name="Org", connector_type="salesforce", url="https://x.example", authentication_method="oauth2",
                credentials={}, user=tenants.first_user(scope),
            ).id  # fmt: skip

    def budget(self, limit: int | None) -> CallBudget:
        configuration = {} if limit is None else {"calls_per_day": limit}
        return CallBudget(self.database, self.tenant, self.connector, configuration, lambda: self.moment)

    def made(self, day: date = date(2026, 3, 31)) -> int:
        with self.database.tenant(self.tenant) as scope:
            return made_on(scope, day).get(self.connector, (0, None, None))[0]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_what_was_taken_and_not_spent_is_given_back(desk: Desk) -> None:
    budget = desk.budget(1000)
    for _ in range(3):
        budget.spend()
    assert desk.made() == BLOCK
    budget.close()
    assert desk.made() == 3
    budget.spend(2 * BLOCK)
    budget.close()
    assert desk.made() == 3 + 2 * BLOCK


def test_the_limit_holds_and_says_when_it_goes_on(desk: Desk) -> None:
    budget = desk.budget(4)
    budget.spend(4)
    with pytest.raises(QuotaReached, match="has made the 4 calls that its calls_per_day allows on 2026-03-31") as told:
        budget.spend()
    assert 3600 <= (told.value.wait or 0) <= 3602
    desk.moment += timedelta(hours=2)
    budget.spend(3)
    budget.close()
    assert (desk.made(), desk.made(date(2026, 4, 1))) == (4, 3)


def test_without_a_limit_calls_are_counted_all_the_same(desk: Desk) -> None:
    budget = desk.budget(None)
    budget.spend(1000)
    budget.observe(17, 5000)
    budget.close()
    with desk.database.tenant(desk.tenant) as scope:
        assert made_on(scope, EVENING.date()) == {desk.connector: (1000, 17, 5000)}


def test_several_that_spend_at_once_do_not_overspend_together(desk: Desk) -> None:
    def spent(_: int) -> int:
        budget, count = desk.budget(100), 0
        try:
            while count < 60:
                budget.spend()
                count += 1
        except QuotaReached:
            pass
        budget.close()
        return count

    with ThreadPoolExecutor(4) as threads:
        total = sum(threads.map(spent, range(4)))
    assert total == desk.made() <= 100
    assert total > 0


@pytest.mark.parametrize("limit", [0, -1, "many", True])
def test_a_limit_that_is_none_is_refused(desk: Desk, limit: object) -> None:
    with pytest.raises(ConfigurationError, match="calls_per_day of a connector must be a whole number"):
        CallBudget(desk.database, desk.tenant, desk.connector, {"calls_per_day": limit}, lambda: desk.moment)
