"""An access token of the hub as the password of an XMPP client."""

import base64
import hashlib
import hmac
import json
import time

from test_accounts import refused


async def test_a_living_access_token_opens_the_xmpp_server_and_no_other_credential_does(mesh):
    await tokens_open(mesh, mesh.a)


async def tokens_open(mesh, hub):
    """Signs in with tokens, good and bad."""
    alice, bob = await hub.register("alice"), await hub.register("bob")
    # From here on the server knows the accounts.
    await alice.online()
    await bob.online()
    assert not await refused(with_token(alice, alice.token).login())
    assert await refused(with_token(alice, bob.token).login()), "another account's"
    assert await refused(with_token(alice, alice.token[:-3]).login()), "one that was changed"
    key = await alice.rest("POST", "/api/v1/keys", {"name": "all", "scopes": []})
    assert await refused(with_token(alice, key["secret"]).login()), "an API key"

    sign = Signer(mesh, hub)
    now = int(time.time())
    assert not await refused(with_token(alice, sign.again(alice.token, exp=now + 60)).login()), "a token like the hub's own"
    assert await refused(with_token(alice, sign.again(alice.token, exp=now - 60)).login()), "an expired one"
    assert await refused(with_token(alice, sign.again(alice.token, aud="hub-c.example")).login()), "another hub's"

    await alice.rest("POST", "/api/v1/auth/logout")
    assert await refused(with_token(alice, alice.token).login()), "one that was revoked"
    await alice.log_in()
    assert not await refused(with_token(alice, alice.token).login())


async def test_guessing_tokens_is_limited_and_the_password_still_opens(mesh):
    alice = await mesh.b.register("alice")
    await alice.online()
    assert not await refused(with_token(alice, alice.token).login())
    guess = alice.token[:-3]
    for _ in range(19):
        assert await refused(with_token(alice, guess).login())
    assert await refused(with_token(alice, alice.token).login()), "the limit"
    assert not await refused(alice.xmpp(mechanism="SCRAM-SHA-256").login())


def with_token(account, token: str):
    """A client that shows a token as its password."""
    return account.xmpp(password=token, mechanism="PLAIN")


class Signer:
    """Makes tokens as the hub does, with its own secret."""

    def __init__(self, mesh, hub):
        directory = mesh.directory / hub.domain.removesuffix(".example")
        self._secret = json.loads((directory / "data/secrets.json").read_text())["access_secret"].encode()

    def again(self, token: str, **changes) -> str:
        """The token with other claims and a good signature."""
        header, claims, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(claims + "==")) | changes
        signed = f"{header}.{_base64url(json.dumps(claims).encode())}"
        return f"{signed}.{_base64url(hmac.digest(self._secret, signed.encode(), hashlib.sha256))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
