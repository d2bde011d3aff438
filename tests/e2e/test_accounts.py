"""One account for REST and XMPP."""

import ssl
from xml.etree import ElementTree

from xmpp_client import LoginRefused


async def refused(login) -> bool:
    try:
        await login
    except LoginRefused:
        return True
    return False


async def test_the_rest_password_opens_the_xmpp_server(mesh):
    alice = await mesh.a.register("alice")
    await alice.online()
    for mechanism in ("SCRAM-SHA-256", "PLAIN"):
        client = alice.xmpp(mechanism=mechanism)
        await client.login()
        assert client.mechanism == mechanism
        await client.logout()


async def test_other_credentials_do_not(mesh):
    bob = await mesh.b.register("bob")
    await bob.online()
    assert await refused(bob.xmpp(password="not the password").login())
    assert await refused(bob.xmpp(password="not the password", mechanism="PLAIN").login())
    stranger = bob.xmpp(jid=f"nobody-{bob.username}@{mesh.b.domain}")
    assert await refused(stranger.login())
    # The same name and password on the other hub is another account.
    assert await refused(bob.xmpp(jid=f"{bob.username}@{mesh.a.domain}", hub=mesh.a).login())


async def test_what_happens_to_an_account_happens_in_the_xmpp_server(mesh):
    await follow_an_account(mesh, mesh.a)


async def follow_an_account(mesh, hub):
    """Registers, changes the password, disables and enables again."""
    account = await hub.register("changing")
    former = account.password
    client = await account.online()
    assert await refused(account.xmpp(password="not the password").login())
    assert await refused(account.xmpp(jid=f"nobody-{account.username}@{hub.domain}").login())

    await account.change_password("another long password")
    await client.ended()
    client = await account.online()
    assert await refused(account.xmpp(password=former).login())

    await account.log_in()
    user = (await account.rest("GET", "/api/v1/me"))["id"]
    operator = await hub.operator()
    await operator.rest("PATCH", f"/api/v1/admin/users/{user}", {"status": "disabled"})
    await client.ended()
    assert await refused(account.xmpp().login())
    # What is written to the account meanwhile waits for it.
    writer = await (await hub.register("writer")).online()
    writer.say(account.jid, "are you there?")
    writer.say(f"nobody-{account.jid}", "and you?")
    assert (await writer.error_from(f"nobody-{account.jid}"))["error"]["condition"] == "service-unavailable"
    assert not writer.received(lambda s: s["from"].bare == account.jid), "it came back"

    await operator.rest("PATCH", f"/api/v1/admin/users/{user}", {"status": "active"})
    client = await account.online()
    assert (await client.answer_from(writer.jid))["body"] == "are you there?"


async def test_accounts_cannot_be_made_over_xmpp(mesh):
    alice = await mesh.a.register("alice")
    client = await alice.online()
    request = client.stream.make_iq_set(ito=mesh.a.domain)
    request.append(ElementTree.fromstring(
        "<query xmlns='jabber:iq:register'><username>mallory</username><password>long enough</password></query>"
    ))
    assert await client.condition_of(request) in ("service-unavailable", "feature-not-implemented", "not-allowed")


async def test_a_client_that_does_not_trust_the_authority_stays_out(mesh):
    alice = await mesh.a.register("alice")
    try:
        await alice.xmpp(ca_file=mesh.foreign_authority()).login()
    except (ConnectionError, ssl.SSLError):
        return
    raise AssertionError("the client took a certificate of an unknown authority")
