"""Refreshes whose answer did not come: whether the token may be spent decides whether it is used again."""

from typing import Any

import pytest

from connector_resources.answers import Answer
from connector_resources.errors import AnswerLost, IntegrationError, RateLimited, ReconnectNeeded, SystemUnavailable
from connector_resources.sandbox import Sandbox
from connector_resources.tokens import token_error

TOKEN = "/services/oauth2/token"


def tokens_asked(sandbox: Sandbox) -> int:
    return sum(request.target == TOKEN for request in sandbox.requests)


@pytest.mark.parametrize("kind", ["lose", "cut"])
def test_a_refresh_whose_answer_is_lost_is_never_sent_again_where_tokens_may_rotate(
    sandbox: Sandbox, connect: Any, kind: Any
) -> None:
    sandbox.faults.add(kind, path=TOKEN)
    store = connect.store("client_id", "refresh_token")
    with pytest.raises(AnswerLost):
        connect(store).entities()
    for _ in range(2):
        with pytest.raises(ReconnectNeeded, match="may be spent and is not used again: reconnect"):
            connect(store).entities()
    assert tokens_asked(sandbox) == 1
    store.credentials["refresh_token"] = sandbox.grants.issue()
    assert connect(store).entities()


def test_a_refresh_whose_answer_is_lost_is_sent_again_where_tokens_have_stayed_the_same(
    sandbox: Sandbox, connect: Any
) -> None:
    store = connect.store("client_id", "refresh_token")
    connect(store).entities()
    sandbox.state.revoke_tokens()
    sandbox.faults.add("lose", path=TOKEN, times=2)
    assert connect(store).entities()
    assert tokens_asked(sandbox) == 4


@pytest.mark.parametrize(("fault", "kind"), [({"status": 503}, SystemUnavailable), ({"status": 429}, RateLimited)])
def test_a_refresh_that_was_certainly_not_carried_out_leaves_no_doubt(
    sandbox: Sandbox, connect: Any, fault: dict[str, int], kind: type[IntegrationError]
) -> None:
    store = connect.store("client_id", "refresh_token")
    sandbox.faults.add("status", path=TOKEN, times=4 if kind is RateLimited else 1, **fault)
    with pytest.raises(kind):
        connect(store).entities()
    assert connect(store).entities()


@pytest.mark.parametrize("status", [502, 504])
def test_after_a_gateways_answer_a_rotating_token_is_not_used_again(sandbox: Sandbox, connect: Any, status: int) -> None:
    """It says that the server's answer was none, or never came (RFC 9110, 15.6.3): the token may be spent."""
    store = connect.store("client_id", "refresh_token")
    sandbox.faults.add("status", path=TOKEN, status=status)
    with pytest.raises(SystemUnavailable):
        connect(store).entities()
    with pytest.raises(ReconnectNeeded, match="may be spent and is not used again"):
        connect(store).entities()


def test_an_answer_that_says_that_nothing_is_wrong_is_taken() -> None:
    content = b'{"access_token": "a", "refresh_token": "the next one", "error": null}'
    assert token_error(Answer("Vendor", TOKEN, 200, {"content-type": "application/json"}, content)) is None
