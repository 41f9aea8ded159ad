"""The token endpoint, and who a token belongs to ("OAuth Authorization Flows", Salesforce Help).

Grants: client credentials, refresh token, JWT bearer, authorization code with PKCE, device code (whose first request goes to
the token endpoint as well, and whose grant is called `device`). A refusal is {error, error_description} with status 400.
"""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from connector_resources.sandbox.consent import Consents
from connector_resources.sandbox.grants import Grants, TokenRefusal
from connector_resources.sandbox.salesforce.org import Org

_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CONSENT = "/services/oauth2/authorize"
_LOGIN_HOSTS = ("https://login.salesforce.com", "https://test.salesforce.com")  # audiences that the real one takes as well


class Authority:
    """Knows the one connected app and the one user of the org. All secrets are made here, at random.

    `rotate`: refresh tokens are good for one use, as orgs can be set to ("Refresh Token Rotation")."""

    def __init__(self, org: Org, rotate: bool = False) -> None:
        self.org = org
        self.grants = Grants(rotate, org.revoke_tokens)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public = key.public_key()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.credentials = {
            "client_id": f"3MVG9{secrets.token_urlsafe(48)}",
            "client_secret": secrets.token_hex(32).upper(),
            "refresh_token": self.grants.issue(),
            "username": str(org.records["User"][org.user_id]["Username"]),
            "password": secrets.token_urlsafe(12),
            "private_key": private.decode(),
        }
        self.consents = Consents(
            self.grants,
            self.credentials["client_id"],
            org.now,
            system="Salesforce",
            account=self.credentials["username"],
            path=CONSENT,
        )

    def token(self, form: Mapping[str, str], authorization: str | None, base: str) -> dict[str, Any]:
        """The reply to a token request; `base` is the URL under which the org was reached. Raises TokenRefusal."""
        if form.get("response_type") == "device_code":
            self._check_client(form, authorization, secret_needed=False)
            return self.consents.device(base)
        more: dict[str, str | int] = {}
        match grant := form.get("grant_type"):
            case "client_credentials":
                self._check_client(form, authorization, secret_needed=True)
            case "refresh_token":
                self._check_client(form, authorization, secret_needed=False)
                more = self.grants.use(form.get("refresh_token", ""))
            case "authorization_code":
                self._check_client(form, authorization, secret_needed=False)
                more = self.consents.redeemed(form)
            case "device":
                self._check_client(form, authorization, secret_needed=False)
                more = self.consents.polled(form.get("code", ""))
            case str() if grant == _JWT:
                self._check_assertion(form.get("assertion", ""), base)
            case _:
                raise TokenRefusal("unsupported_grant_type", "grant type not supported")
        return self._reply(base) | more

    def _reply(self, base: str) -> dict[str, Any]:
        identity = f"{base}/id/{self.org.id}/{self.org.user_id}"
        issued = str(int(self.org.now().timestamp() * 1000))
        signature = hmac.digest(self.credentials["client_secret"].encode(), (identity + issued).encode(), "sha256")
        return {
            "access_token": self.org.open_session(),
            "signature": base64.b64encode(signature).decode(),
            "scope": "refresh_token api",
            "instance_url": base,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued,
        }

    def _check_client(self, form: Mapping[str, str], authorization: str | None, secret_needed: bool) -> None:
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if authorization and authorization.lower().startswith("basic "):
            try:
                client_id, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise TokenRefusal("invalid_client", "invalid client credentials") from None
        if not _same(client_id, self.credentials["client_id"]):
            raise TokenRefusal("invalid_client_id", "client identifier invalid")
        if (secret_needed or secret is not None) and not _same(secret, self.credentials["client_secret"]):
            raise TokenRefusal("invalid_client", "invalid client credentials")

    def _check_assertion(self, assertion: str, base: str) -> None:
        """RS256 over header.claims; iss, sub, aud and exp as the JWT bearer flow wants them (RFC 7523)."""
        head, _, signature = assertion.rpartition(".")
        try:
            header, claims = (json.loads(_decoded(part)) for part in head.split("."))
            if header["alg"] != "RS256":
                raise TokenRefusal("invalid_grant", "invalid assertion")
            self._public.verify(_decoded(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
            expired = float(claims["exp"]) <= self.org.now().timestamp()
        except (ValueError, TypeError, KeyError, InvalidSignature):
            raise TokenRefusal("invalid_grant", "invalid assertion") from None
        if expired:
            raise TokenRefusal("invalid_grant", "assertion has expired")
        if claims.get("iss") != self.credentials["client_id"]:
            raise TokenRefusal("invalid_client_id", "client identifier invalid")
        if claims.get("sub") != self.credentials["username"]:
            raise TokenRefusal("invalid_grant", "user hasn't approved this consumer")
        given = claims.get("aud")
        audiences = given if isinstance(given, list) else [given]
        if not {base, f"{base}/services/oauth2/token", *_LOGIN_HOSTS} & {str(audience).rstrip("/") for audience in audiences}:
            raise TokenRefusal("invalid_grant", "audience is invalid")

    def check_password(self, username: str, password: str) -> bool:
        return _same(username, self.credentials["username"]) and _same(password, self.credentials["password"])

    def identity(self, base: str) -> dict[str, Any]:
        """What the identity URL and userinfo tell of the user."""
        user = self.org.records["User"][self.org.user_id]
        identity = f"{base}/id/{self.org.id}/{self.org.user_id}"
        name = f"{user['FirstName']} {user['LastName']}"
        urls = {"rest": f"{base}/services/data/v{{version}}/", "sobjects": f"{base}/services/data/v{{version}}/sobjects/"}
        urls["query"] = f"{base}/services/data/v{{version}}/query/"
        return {
            "id": identity,
            "sub": identity,
            "user_id": self.org.user_id,
            "organization_id": self.org.id,
            "username": user["Username"],
            "preferred_username": user["Username"],
            "display_name": name,
            "name": name,
            "email": user["Email"],
            "active": True,
            "user_type": "STANDARD",
            "locale": "en_US",
            "utcOffset": 0,
            "urls": urls,
        }


def _same(given: str | None, wanted: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), wanted.encode())


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
