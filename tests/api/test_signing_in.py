"""The sign-in page as browsers meet it: cookies, foreign pages, hostile input, and how long to wait."""

import re
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest
from reception import PASSWORD, Reception, open_reception

from integration_pipelines.api.sign_in import local_path
from integration_pipelines.settings import Settings
from integration_pipelines.store import people, tenants
from integration_pipelines.store.database import Database

ANN = "ann@acme.example"
FORM = {"email": ANN, "password": PASSWORD}


@pytest.fixture(autouse=True)
def ann(reception: Reception) -> int:
    return reception.user(ANN)


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(reception: Reception) -> None:
    with reception.browser() as browser:
        answer = browser.post("/sign-in", data=FORM | {"next": "/me?a=1"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/me?a=1")
        cookie = answer.headers["set-cookie"]
        assert re.fullmatch(
            r"integration_session=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax", cookie, re.IGNORECASE
        )
        assert answer.headers["cache-control"] == "no-store"
        told = browser.get("/me").json()
    assert (told["email"], told["role"], told["operator"], told["by"]) == (ANN, "engineer", False, "session")


@pytest.mark.parametrize("way", ["production", "trusted proxy"])
def test_over_https_the_cookie_is_secure_and_bound_to_the_host(database: Database, settings: Settings, way: str) -> None:
    production = way == "production"
    options = {} if production else {"proxy_headers": True, "forwarded_allow_ips": "127.0.0.1"}
    changed = replace(settings, env="production") if production else settings
    with open_reception(database, changed, **options) as reception, reception.browser() as browser:
        headers = {"Origin": reception.url.replace("http:", "https:"), "X-Forwarded-Proto": "https"}
        answer = browser.post("/sign-in", data=FORM, headers=headers)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-integration_session=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        token = cookie.split(";")[0].split("=", 1)[1]
        forwarded = {"X-Forwarded-Proto": "https"}
        assert browser.get("/me", headers=forwarded | {"Cookie": f"__Host-integration_session={token}"}).status_code == 200
        assert browser.get("/me", headers=forwarded | {"Cookie": f"integration_session={token}"}).status_code == 303


def test_the_word_of_an_untrusted_client_about_itself_counts_for_nothing(reception: Reception) -> None:
    with reception.browser() as browser:
        for n in range(20):
            form = {"email": f"user{n}@acme.example", "password": "wrong wrong wrong"}
            assert browser.post("/sign-in", data=form, headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code == 401
        answer = browser.post("/sign-in", data=FORM, headers={"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=10.0.0.1"})
        assert answer.status_code == 429
        reception.clock.pass_(minutes=15)
        claimed = browser.post("/sign-in", data=FORM, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" not in claimed.headers["set-cookie"]


def test_too_many_failures_are_told_with_the_wait(reception: Reception) -> None:
    with reception.browser() as browser:
        for _ in range(5):
            wrong = browser.post("/sign-in", data=FORM | {"password": "wrong wrong wrong"})
            assert (wrong.status_code, "E-mail address or password is wrong." in wrong.text) == (401, True)
        reception.clock.pass_(minutes=5)
        answer = browser.post("/sign-in", data=FORM)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "600")
        assert "Try again in 10 minutes." in answer.text
        program = browser.post("/sign-in", data=FORM, headers={"Accept": "application/json"})
        assert (program.status_code, program.headers["retry-after"], program.json()["status"]) == (429, "600", 429)
        reception.clock.pass_(seconds=600)
        assert browser.post("/sign-in", data=FORM).status_code == 303


def test_the_tenant_is_asked_for_only_when_the_password_does_not_decide(reception: Reception, database: Database) -> None:
    reception.user(ANN, tenant="globex", role="auditor")
    with reception.browser() as browser:
        assert "<select" not in browser.get("/sign-in").text
        wrong = browser.post("/sign-in", data=FORM | {"password": "wrong wrong wrong"})
        assert ("<select" in wrong.text, "globex" in wrong.text) == (False, False)
        asked = browser.post("/sign-in", data=FORM)
        assert asked.status_code == 401
        assert re.findall("<option>(.*?)</option>", asked.text) == ["acme", "globex"]
        assert PASSWORD not in asked.text
        assert browser.post("/sign-in", data=FORM | {"tenant": "globex"}).status_code == 303
        assert browser.get("/me").json()["tenant"] == str(tenants.find(database, "globex"))


def test_signing_out_ends_the_session_not_only_the_cookie(reception: Reception) -> None:
    with reception.signed_in(ANN) as browser:
        token = browser.cookies["integration_session"]
        answer = browser.post("/sign-out")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert "Max-Age=0" in answer.headers["set-cookie"]
        stolen = browser.get("/me", headers={"Cookie": f"integration_session={token}"})
        assert stolen.headers["location"] == "/sign-in?next=%2Fme"
        assert browser.post("/sign-out").status_code == 303  # again: nothing to end


def test_who_is_signed_in_is_not_asked_again(reception: Reception) -> None:
    with reception.signed_in(ANN) as browser:
        answer = browser.get("/sign-in", params={"next": "/me"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/me")


FOREIGN: list[dict[str, str | None]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": None},
    {"Origin": "http://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: "-".join(f"{k}-{v}" for k, v in headers.items()))
def test_a_foreign_page_changes_nothing_with_somebodys_cookie(reception: Reception, headers: dict[str, str | None]) -> None:
    with reception.signed_in(ANN) as browser:
        own = {k: v for k, v in browser.headers.items() if k.lower() != "origin"}
        sent = (own if "Origin" in headers else dict(browser.headers)) | {k: v for k, v in headers.items() if v is not None}
        cookie = {"Cookie": f"integration_session={browser.cookies['integration_session']}"}
        with httpx.Client(base_url=reception.url, headers=sent | cookie, trust_env=False) as foreign:
            for path in ("/me", "/sign-out", "/sign-in"):
                assert foreign.post(path, data=FORM).status_code == 403, path
            assert foreign.get("/me").status_code == 200  # looking changes nothing, and it cannot read the answer
        assert browser.post("/me").json()["email"] == ANN
        assert browser.post("/me", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


HOSTILE = [
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    " //evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/ü",
    "/a b",
    "/" + "x" * 2000,
    "/me\r\nSet-Cookie: a=b",
]


@pytest.mark.parametrize("wanted", HOSTILE, ids=range(len(HOSTILE)))
def test_next_leads_nowhere_else(reception: Reception, wanted: str) -> None:
    assert local_path(wanted) == "/"
    with reception.browser() as browser:
        answer = browser.post("/sign-in", data=FORM | {"next": wanted})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "a=b" not in answer.headers["set-cookie"]
        there = browser.get(f"/sign-in?next={quote(wanted, safe='')}")
    assert (there.status_code, there.headers["location"]) == (303, "/")


@pytest.mark.parametrize("wanted", ["/", "/me", "/dagster/runs?q=a%2Fb&x=[1]", "/%2F%2Fevil.example", "/a//b"])
def test_next_leads_to_any_page_of_this_server(wanted: str) -> None:
    assert local_path(wanted) == wanted


def test_the_page_runs_no_script_and_loads_nothing(reception: Reception) -> None:
    with reception.browser() as browser:
        first, second = browser.get("/sign-in"), browser.get("/sign-in")
    policy = first.headers["content-security-policy"]
    (nonce,) = re.findall(r"style-src 'nonce-([\w-]+)'", policy)
    assert policy.startswith("default-src 'none';")
    assert {"form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy.split("; "))
    assert f'<style nonce="{nonce}">' in first.text
    assert nonce not in second.text
    assert re.search(r"<script|javascript:|\son\w+=|(src|href)=\"(?!data:)", first.text) is None
    assert 'lang="en"' in first.text
    for name in re.findall(r'<input id="(\w+)"', first.text):
        assert f'<label for="{name}">' in first.text


def test_every_answer_carries_the_security_headers(reception: Reception) -> None:
    expected = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
    }
    with reception.browser() as browser:
        for path in ("/sign-in", "/me", "/nowhere", "/dagster/"):
            assert expected.items() <= dict(browser.get(path).headers).items(), path


def test_what_was_typed_comes_back_as_text(reception: Reception) -> None:
    typed = {"email": '"><script>alert(1)</script>', "password": "canary-password", "next": '/"><img src=x>'}
    with reception.browser() as browser:
        answer = browser.post("/sign-in", data=typed)
    assert "<script" not in answer.text
    assert "<img" not in answer.text
    assert "canary" not in answer.text


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"email=a&password=" + b"x" * 9000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"a=1" for _ in range(20)), "application/x-www-form-urlencoded", 400),
        (b"email=\xff", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data; boundary=x", 415),
        (b"", "application/x-www-form-urlencoded", 401),
        (b"email=%00%ff&password=%00", "application/x-www-form-urlencoded; charset=utf-8", 401),
    ],
    ids=["long", "many", "bytes", "json", "multipart", "empty", "nul"],
)
def test_a_hostile_form_is_refused(reception: Reception, content: bytes, kind: str, status: int) -> None:
    with reception.browser() as browser:
        answer = browser.post("/sign-in", content=content, headers={"Content-Type": kind, "Accept": "*/*"})
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_new_password_ends_the_browsers_session(reception: Reception, database: Database, ann: int) -> None:
    with reception.signed_in(ANN) as browser:
        assert browser.get("/me").status_code == 200
        tenant = tenants.find(database, "acme")
        assert tenant is not None
        with database.tenant(tenant) as scope:
            people.set_password(scope, ann, "another one, as good", actor="test")
        assert browser.get("/me").status_code == 303
