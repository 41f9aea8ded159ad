"""`integration user` and `integration api-key`: who may come in."""

from datetime import UTC, datetime, timedelta

import click

from integration_pipelines import cli_output
from integration_pipelines.cli_store import JSON, TENANT, opened_store

GENERATE = click.option("--generate", is_flag=True, help="Make a random password and show it once, instead of asking for one.")
ACTOR = "cli"


@click.group()
def user() -> None:
    """People who may sign in."""


@user.command("list")
@TENANT
@JSON
def user_list(tenant_name: str | None, json: bool) -> None:
    """Every user of a tenant."""
    from integration_pipelines.store import people

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        rows = people.every(scope)
    columns = {"id": "id", "email": "e-mail", "role": "role", "is_operator": "operator", "is_active": "active"}
    cli_output.show(rows, columns | {"has_password": "password", "last_seen_at": "last seen"}, json=json)


@user.command("create")
@click.argument("email")
@click.option("--role", type=click.Choice(["administrator", "engineer", "auditor"]), default="engineer", show_default=True)
@click.option("--operator", is_flag=True, help="May use the Dagster UI too, which shows every tenant.")
@GENERATE
@TENANT
@JSON
def user_create(email: str, role: str, operator: bool, generate: bool, tenant_name: str | None, json: bool) -> None:
    """Make a user. The password is asked for, without showing it.

    \b
    integration user create ann@acme.example --role administrator
    integration user create ops@acme.example --operator --generate
    """
    from integration_pipelines.store import people

    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        people.checked_email(email)
        password = people.new_password() if generate else _asked()
        with store.database.tenant(tenant) as scope:
            found = people.create(scope, email, password, role=role, operator=operator, actor=ACTOR)
    if json:
        cli_output.as_json({"id": found, "email": email.strip().lower()} | ({"password": password} if generate else {}))
        return
    click.echo(f"User {found}, {email.strip().lower()}, may sign in.")
    _show_password(password, generate)


@user.command("password")
@click.argument("email")
@GENERATE
@TENANT
@JSON
def user_password(email: str, generate: bool, tenant_name: str | None, json: bool) -> None:
    """Set a user's password, and end the user's sessions.

    \b
    integration user password ann@acme.example
    integration user password admin@localhost --generate
    """
    from integration_pipelines.store import people

    with opened_store() as store:
        tenant = store.tenant(tenant_name)
        with store.database.tenant(tenant) as scope:
            found = people.find(scope, email)
        password = people.new_password() if generate else _asked()
        with store.database.tenant(tenant) as scope:
            people.set_password(scope, found, password, actor=ACTOR)
    if json:
        cli_output.as_json({"id": found, "email": email.strip().lower()} | ({"password": password} if generate else {}))
        return
    click.echo("The password is set; sessions that were open have ended.")
    _show_password(password, generate)


@user.command("deactivate")
@click.argument("email")
@TENANT
def user_deactivate(email: str, tenant_name: str | None) -> None:
    """Keep a user out: password, sessions and API keys stop working at once.

    \b
    integration user deactivate ann@acme.example
    """
    from integration_pipelines.store import people

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        people.deactivate(scope, people.find(scope, email), actor=ACTOR)
    click.echo(f"{email.strip().lower()} can no longer sign in, and their API keys are refused.")


@click.group("api-key")
def api_key() -> None:
    """Keys that programs sign in with."""


@api_key.command("list")
@TENANT
@JSON
def api_key_list(tenant_name: str | None, json: bool) -> None:
    """Every API key of a tenant; the keys themselves are stored nowhere."""
    from integration_pipelines.store import api_keys

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        rows = api_keys.every(scope, datetime.now(UTC))
    columns = {"id": "id", "name": "name", "email": "of", "state": "state", "created_at": "made", "last_used_at": "last used"}
    cli_output.show(rows, columns | {"expires_at": "expires"}, json=json)


@api_key.command("create")
@click.argument("name")
@click.option("--user", "email", required=True, help="Whose rights the program has.")
@click.option("--days", type=click.IntRange(1, 3650), help="For how long it works; without it until it is revoked.")
@TENANT
@JSON
def api_key_create(name: str, email: str, days: int | None, tenant_name: str | None, json: bool) -> None:
    """Make an API key and show it once.

    \b
    integration api-key create "nightly report" --user ann@acme.example --days 90
    curl -H "Authorization: Bearer ik_1_…" https://integration.example.com/…
    """
    from integration_pipelines.store import api_keys, people

    until = datetime.now(UTC) + timedelta(days=days) if days else None
    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        made = api_keys.create(scope, people.find(scope, email), name, expires_at=until, actor=ACTOR)
    if json:
        cli_output.as_json({"id": made.id, "key": made.key, "expires_at": until})
        return
    click.echo(f"API key {made.id}, shown this once:\n\n  {made.key}\n")


@api_key.command("revoke")
@click.argument("number", type=int)
@TENANT
def api_key_revoke(number: int, tenant_name: str | None) -> None:
    """Refuse a key from now on.

    \b
    integration api-key revoke 3
    """
    from integration_pipelines.store import api_keys

    with opened_store() as store, store.database.tenant(store.tenant(tenant_name)) as scope:
        api_keys.revoke(scope, number, now=datetime.now(UTC), actor=ACTOR)
    click.echo(f"API key {number} is refused from now on.")


def _asked() -> str:
    from integration_pipelines.store import people

    hint = f"Password ({people.SHORTEST} characters or more)"
    return people.checked_password(click.prompt(hint, hide_input=True, confirmation_prompt="The same again"))


def _show_password(password: str, generated: bool) -> None:
    if generated:
        click.echo(f"The password, shown this once:\n\n  {password}\n")
