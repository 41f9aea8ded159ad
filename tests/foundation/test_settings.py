"""Settings: what the environment may say, and one clear sentence for what it may not."""

import base64
import dataclasses
import os
from pathlib import Path

import pytest

from connector_resources.errors import ConfigurationError
from integration_pipelines.settings import VARIABLES, load

KEY = base64.b64encode(b"k" * 32).decode()
URL = "postgresql://app:canary-password@db.internal:5432/store"


def test_an_empty_environment_gives_a_development_installation_below_the_current_folder() -> None:
    found = load({})
    assert (found.env, found.production, found.home) == ("development", False, Path("var").absolute())
    assert (found.database_url, found.master_key, found.journal_months) == (None, None, 120)


def test_a_variable_that_is_set_to_nothing_counts_as_not_set() -> None:
    assert load(dict.fromkeys(VARIABLES, "")) == load({})


def test_the_environment_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATION_JOURNAL_MONTHS", "7")
    assert load().journal_months == 7
    assert os.environ["INTEGRATION_JOURNAL_MONTHS"] == "7"


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load({}).env = "production"  # type: ignore[misc] # the point of the test


def test_settings_show_neither_key_nor_password() -> None:
    found = load({"DATABASE_URL": URL, "INTEGRATION_MASTER_KEY": KEY, "INTEGRATION_NEXT_MASTER_KEY": KEY})
    assert found.master_key == b"k" * 32
    for text in (repr(found), str(found), f"{found}"):
        assert "canary" not in text
        assert KEY not in text
        assert "kkkk" not in text


@pytest.mark.parametrize(
    "spelling", ["postgres://h/d", "postgresql://h/d", "postgresql+psycopg://h/d", "postgresql+psycopg2://h/d"]
)
def test_every_spelling_of_a_postgresql_address_means_the_same(spelling: str) -> None:
    assert load({"DATABASE_URL": spelling}).database_url == "postgresql://h/d"


@pytest.mark.parametrize("name", ["DATABASE_URL", "DAGSTER_DATABASE_URL", "ERP_DATABASE_URL"])
@pytest.mark.parametrize(
    "value", ["mysql://u:canary@h/d", "canary", "postgresql://u:can/ary@h:canary/d", "postgresql://u:canary@[h/d"]
)
def test_an_address_that_is_none_is_refused_without_quoting_it(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as refusal:
        load({name: value})
    assert "can" not in str(refusal.value).replace("cannot", "")


@pytest.mark.parametrize("name", ["INTEGRATION_MASTER_KEY", "INTEGRATION_NEXT_MASTER_KEY"])
@pytest.mark.parametrize("value", ["short", base64.b64encode(b"k" * 31).decode(), KEY + "!", "ü" * 44, KEY[:-4] + "===="])
def test_a_key_that_is_not_32_bytes_of_base64_is_refused_without_quoting_it(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be 32 bytes in base64") as refusal:
        load({name: value})
    assert value not in str(refusal.value)


@pytest.mark.parametrize("value", ["0", "-1", "1201", "1.5", "²", "١٢", "12 months", "9" * 5000])
def test_a_number_of_months_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="INTEGRATION_JOURNAL_MONTHS"):
        load({"INTEGRATION_JOURNAL_MONTHS": value})


def test_an_environment_that_is_neither_development_nor_production_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="INTEGRATION_ENV is 'prod'; it must be development or production"):
        load({"INTEGRATION_ENV": "prod"})


def test_production_without_a_database_of_its_own_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        load({"INTEGRATION_ENV": "production", "INTEGRATION_MASTER_KEY": KEY})


def test_production_without_an_explicit_key_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="INTEGRATION_MASTER_KEY is not set"):
        load({"INTEGRATION_ENV": "production", "DATABASE_URL": URL})


def test_production_starts_with_both() -> None:
    assert load({"INTEGRATION_ENV": "production", "DATABASE_URL": URL, "INTEGRATION_MASTER_KEY": KEY}).production


def test_a_file_of_roots_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"INTEGRATION_CA_FILE names .*roots.pem, and there is no such file"):
        load({"INTEGRATION_CA_FILE": str(tmp_path / "roots.pem")})


def test_paths_do_not_depend_on_the_folder_a_process_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roots.pem").write_text("")
    monkeypatch.chdir(tmp_path)
    found = load({"INTEGRATION_CA_FILE": "roots.pem", "ERP_CATALOGUE": "erp", "INTEGRATION_HOME": "home"})
    assert (found.ca_file, found.erp_catalogue, found.home) == (
        str(tmp_path / "roots.pem"),
        tmp_path / "erp",
        tmp_path / "home",
    )


def test_hosts_that_are_allowed_are_read_as_they_stand_in_urls() -> None:
    given = " ERP.internal,10.0.0.5 , [fd00::1],,"
    assert load({"INTEGRATION_ALLOWED_HOSTS": given}).allowed_hosts == {"erp.internal", "10.0.0.5", "fd00::1"}
    assert load({}).allowed_hosts == frozenset()
    with pytest.raises(ConfigurationError, match=r"INTEGRATION_ALLOWED_HOSTS holds 'https://erp.internal'; write hosts as"):
        load({"INTEGRATION_ALLOWED_HOSTS": "https://erp.internal"})
