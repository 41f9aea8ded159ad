"""Makes the tables and brings them up to date."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from psycopg.errors import DuplicateDatabase, UniqueViolation
from sqlalchemy.engine import make_url

from connector_resources.errors import ConfigurationError
from integration_pipelines.store.database import OLDEST, engine, explained, shown

_LOCK = 0x1E6A710


def migrate(url: str) -> str | None:
    """Bring the store up to date; returns its revision, or None where nothing was missing. Safe to call again and from two
    processes at once.

    Raises NetworkError when the database cannot be reached, ConfigurationError when it is too old or refuses."""
    owner = engine(url, role=None, name="integration migrate", poolclass=sa.NullPool)
    with explained(url), owner.connect() as connection:
        require_version(connection, url)
        connection.execute(sa.text("SELECT pg_advisory_lock(:k)"), {"k": _LOCK})
        connection.commit()
        before = _revision(connection)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except sa.exc.ProgrammingError as failure:
            connection.rollback()
            reason = str(failure.orig).strip().splitlines()[0]
            raise ConfigurationError(
                f"The tables could not be made in {shown(url)}: {reason}. The account in DATABASE_URL must own the database "
                "and may need CREATEROLE for the first migration."
            ) from None
        connection.commit()
        after = _revision(connection)
    return after if after != before else None


def require_version(connection: sa.Connection, url: str) -> None:
    found = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if found < OLDEST:
        raise ConfigurationError(
            f"The database at {shown(url)} is PostgreSQL {found // 10000}; version 14 or newer is needed. "
            "Upgrade it, or point DATABASE_URL at another server."
        )


def require_migrated(connection: sa.Connection, url: str) -> None:
    """Raises ConfigurationError when the tables are missing, or are those of another release."""
    if connection.exec_driver_sql("SELECT to_regclass('public.sync_record_changes')").scalar() is None:
        raise ConfigurationError(f"The tables are missing in {shown(url)}. Run `integration migrate`.")
    readable = connection.exec_driver_sql("SELECT has_table_privilege('public.alembic_version', 'SELECT')").scalar()
    found, wanted = (_revision(connection) or "") if readable else "0001", _newest()
    if found != wanted:
        older = found < wanted
        way = "Run `integration migrate`" if older else "Use that release, or newer"
        what = "an older" if older else "a newer"
        raise ConfigurationError(f"The tables in {shown(url)} are of {what} release (revision {found}, here {wanted}). {way}.")


def _newest() -> str:
    """The revision that this release works with, without importing alembic."""
    return max(path.name[:4] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))


def create_database(url: str, name: str) -> str:
    """A database beside the one in `url`, made if missing. Returns its URL."""
    server = engine(url, role=None, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with explained(url), server.connect() as connection:
        known = connection.execute(sa.text("SELECT 1 FROM pg_database WHERE datname = :n"), {"n": name}).scalar()
        try:
            if not known:
                connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        except (sa.exc.ProgrammingError, sa.exc.IntegrityError) as failure:
            if not isinstance(failure.orig, (DuplicateDatabase, UniqueViolation)):  # another process may have been faster
                raise ConfigurationError(
                    f"Database `{name}` could not be made on {shown(url)}: {str(failure.orig).splitlines()[0]}. "
                    f"Create it yourself, or give its address."
                ) from None
    return make_url(url).set(database=name).render_as_string(hide_password=False).replace("postgresql+psycopg", "postgresql")


def _revision(connection: sa.Connection) -> str | None:
    if connection.exec_driver_sql("SELECT to_regclass('public.alembic_version')").scalar() is None:
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)
