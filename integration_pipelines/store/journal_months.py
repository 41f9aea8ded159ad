"""The journal's partitions: one a month, made ahead of time, dropped when the retention is over."""

from datetime import date

import sqlalchemy as sa

from integration_pipelines.store.database import Database


def keep(database: Database, today: date, months: int) -> None:
    """Have this month's and the next two months' partitions; drop those older than `months`."""
    with database.directory() as connection:
        for ahead in (0, 1, 2):
            connection.execute(sa.text("SELECT add_journal_month(:day)"), {"day": _month(today, ahead)})
        connection.execute(sa.text("SELECT drop_journal_before(:day)"), {"day": _month(today, -months)}).all()


def _month(day: date, later: int) -> date:
    """The first day of the month that comes so many months after that of `day`."""
    months = day.year * 12 + day.month - 1 + later
    return date(months // 12, months % 12 + 1, 1)
