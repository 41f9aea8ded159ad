"""The journal's partitions: one a month, made ahead of time, dropped when the retention is over."""

from datetime import date, timedelta

import sqlalchemy as sa

from integration_pipelines.store.database import Database


def keep(database: Database, today: date, months: int) -> None:
    """Have this month's and the next two months' partitions; drop those older than `months`."""
    with database.directory() as connection:
        for ahead in (0, 31, 62):
            connection.execute(sa.text("SELECT add_journal_month(:day)"), {"day": today + timedelta(days=ahead)})
        first = today.year * 12 + today.month - 1 - months
        oldest = date(first // 12, first % 12 + 1, 1) if first >= 12 else date.min
        connection.execute(sa.text("SELECT drop_journal_before(:day)"), {"day": oldest}).all()
