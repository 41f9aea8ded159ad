"""One frozen Settings, read once from the environment. The only reader of os.environ.

README.md lists every variable in a table; a test compares the two.
"""

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from connector_resources.errors import ConfigurationError

VARIABLES: dict[str, str] = {
    "INTEGRATION_HOME": "folder for the embedded database, Dagster's settings and logs (default ./var)",
    "INTEGRATION_ENV": "development (default) or production; production demands DATABASE_URL and INTEGRATION_MASTER_KEY",
    "DATABASE_URL": "PostgreSQL 14 or newer; without it an embedded one is started under INTEGRATION_HOME",
    "DAGSTER_DATABASE_URL": "Dagster's own database (default: database `dagster` on the same server; one an installation)",
    "ERP_DATABASE_URL": "your ERP's own PostgreSQL; without it the reference ERP schema in DATABASE_URL is the ERP",
    "ERP_CATALOGUE": "a YAML file that says which tables and columns of ERP_DATABASE_URL hold which entity",
    "INTEGRATION_MASTER_KEY": "32 bytes in base64 that wrap every tenant's key (`integration key new` makes one)",
    "INTEGRATION_NEXT_MASTER_KEY": "the key that `integration key rotate` changes to, when the key is not in a file",
    "INTEGRATION_CA_FILE": "additional TLS roots (PEM) for connectors, beside the system's",
    "INTEGRATION_ALLOWED_HOSTS": "hosts in private networks that connectors may reach in production, separated by commas",
    "INTEGRATION_MANIFESTS": "a folder of connector manifests of your own (<type>.yaml)",
    "INTEGRATION_CODE_SERVER": "host:port of the code server (default: a socket under INTEGRATION_HOME, for one machine)",
    "INTEGRATION_MAX_RUNS": "how many runs may be under way at once, each a process of its own (default: two a core)",
    "INTEGRATION_MAX_RUNS_PER_CONNECTOR": "how many of them through one connector (default 2)",
    "INTEGRATION_MAX_RUNS_PER_TENANT": "how many of them of one tenant (default: all but one, so that no tenant holds all)",
    "INTEGRATION_JOURNAL_MONTHS": "for how many months the before/after journal is kept (default 120)",
}


@dataclass(frozen=True)
class Settings:
    home: Path
    env: Literal["development", "production"]
    database_url: str | None
    dagster_database_url: str | None
    erp_database_url: str | None
    erp_catalogue: Path | None
    master_key: bytes | None
    next_master_key: bytes | None
    ca_file: str | None
    allowed_hosts: frozenset[str]
    manifests: Path | None
    journal_months: int
    code_server: str | None
    max_runs: int
    max_runs_per_connector: int
    max_runs_per_tenant: int

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def code_socket(self) -> Path:
        """The code server's socket: under the home, or in the folder for temporary files where that path is too long for a
        socket (107 bytes)."""
        beside = self.home / "run" / "code.sock"
        if len(str(beside)) <= 100:
            return beside
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"integration-run-{os.geteuid()}-{digest}" / "code.sock"

    def __repr__(self) -> str:
        return f"Settings(home={str(self.home)!r}, env={self.env!r})"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (or from `environ`). Raises ConfigurationError naming the variable."""
    env = dict(os.environ if environ is None else environ)
    mode = env.get("INTEGRATION_ENV") or "development"  # empty is unset: compose files pass such variables on
    if mode not in ("development", "production"):
        raise ConfigurationError(f"INTEGRATION_ENV is {mode!r}; it must be development or production.")
    runs = _number(env, "INTEGRATION_MAX_RUNS", 2 * (os.cpu_count() or 1), 1000)
    settings = Settings(
        home=Path(env.get("INTEGRATION_HOME") or "var").expanduser().absolute(),
        env="production" if mode == "production" else "development",
        database_url=_url(env, "DATABASE_URL"),
        dagster_database_url=_url(env, "DAGSTER_DATABASE_URL"),
        erp_database_url=_url(env, "ERP_DATABASE_URL"),
        erp_catalogue=Path(env["ERP_CATALOGUE"]).expanduser().absolute() if env.get("ERP_CATALOGUE") else None,
        master_key=_key(env, "INTEGRATION_MASTER_KEY"),
        next_master_key=_key(env, "INTEGRATION_NEXT_MASTER_KEY"),
        ca_file=_file(env, "INTEGRATION_CA_FILE"),
        allowed_hosts=_hosts(env, "INTEGRATION_ALLOWED_HOSTS"),
        manifests=_folder(env, "INTEGRATION_MANIFESTS"),
        journal_months=_number(env, "INTEGRATION_JOURNAL_MONTHS", 120, 1200),
        code_server=_place(env, "INTEGRATION_CODE_SERVER"),
        max_runs=runs,
        max_runs_per_connector=_number(env, "INTEGRATION_MAX_RUNS_PER_CONNECTOR", 2, 1000),
        max_runs_per_tenant=_number(env, "INTEGRATION_MAX_RUNS_PER_TENANT", max(1, runs - 1), 1000),
    )
    if settings.production and settings.database_url is None:
        raise ConfigurationError(
            "DATABASE_URL is not set. The embedded PostgreSQL is for one person's machine; with INTEGRATION_ENV=production "
            "set DATABASE_URL to a server of yours (PostgreSQL 14 or newer)."
        )
    if settings.production and settings.master_key is None:
        raise ConfigurationError(
            "INTEGRATION_MASTER_KEY is not set. With INTEGRATION_ENV=production the key that protects all credentials must be "
            "given explicitly; `integration key new` makes one. Keep it where you keep other secrets, not beside the database."
        )
    return settings


def inherited(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours that is started: what this one has, with these changes."""
    return {**os.environ, **changes}


def _url(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name, "").strip()
    if not value:
        return None
    if not re.match(r"^postgres(ql)?(\+\w+)?://", value):
        raise ConfigurationError(f"{name} must begin with postgresql:// (what follows is not shown: it may hold a password).")
    try:
        urlsplit(value).port  # noqa: B018 - read for its refusal
    except ValueError:
        raise ConfigurationError(
            f"{name} is no address (not shown: it may hold a password): write postgresql://user:password@host:port/database, "
            "with the special characters of a password percent-encoded (@ is %40, / is %2F)."
        ) from None
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", value)


def _key(env: Mapping[str, str], name: str) -> bytes | None:
    value = env.get(name, "").strip()
    if not value:
        return None
    try:
        key = base64.b64decode(value, validate=True)
    except ValueError:  # not base64, or not even ASCII
        key = b""
    if len(key) != 32:
        raise ConfigurationError(f"{name} must be 32 bytes in base64 (44 characters); `integration key new` makes one.")
    return key


def _file(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name, "").strip()
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ConfigurationError(f"{name} names {value}, and there is no such file.")
    return str(path)


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name, "").strip()
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_dir():
        raise ConfigurationError(f"{name} names {value}, and there is no such folder.")
    return path


def _place(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name, "").strip()
    if value and not re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+:[0-9]{1,5}", value):
        raise ConfigurationError(f"{name} is {value!r}; write host:port, for example 10.0.0.5:4000.")
    return value or None


def _hosts(env: Mapping[str, str], name: str) -> frozenset[str]:
    """Names and addresses, in small letters, IPv6 without brackets."""
    given = [host.strip().lower().strip("[]") for host in env.get(name, "").split(",")]
    for host in given:
        if not re.fullmatch(r"[a-z0-9._-]*|[0-9a-f:.]+", host):
            raise ConfigurationError(
                f"{name} holds {host!r}; write hosts as they stand in URLs, separated by commas, like erp.internal, 10.0.0.5."
            )
    return frozenset(given) - {""}


def _number(env: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = env.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= most:
        raise ConfigurationError(f"{name} is {value!r}; it must be a whole number from 1 to {most}.")
    return int(value)
