"""Only hubs of the mesh federate, and only over TLS."""

from foreign_pki import make_certificate
from rogue_hub import RogueHub


async def delivered(mesh, client, attempt, claimed: str | None = None) -> bool:
    """Whether a message of an attempt by a false hub, which claims to be hub B or `claimed`, reaches `client` on its hub."""
    hub, other = (mesh.a, mesh.b) if client.jid.endswith(mesh.a.domain) else (mesh.b, mesh.a)
    claimed = claimed or other.domain
    text = f"rogue {claimed} {id(attempt)}"
    async with RogueHub(claimed, hub.domain, hub.s2s) as rogue:
        await attempt(rogue)
        await rogue.send_message(f"mallory@{claimed}", client.jid, text)
        # The hub has worked through what it was sent when it answers, or ends, this stream.
        await rogue.send("</stream:stream>")
        await rogue.read_until("</stream:stream>")
    sender = await (await other.register("bob")).online()
    sender.say(client.jid, "marker")
    await client.expect("the marker", lambda s: s.name == "message" and s["body"] == "marker")
    return bool(client.received(lambda s: s.name == "message" and s["body"] == text))


async def test_only_a_certificate_of_the_mesh_opens_s2s(mesh):
    client = await (await mesh.a.register("alice")).online()
    foreign = make_certificate(mesh.scratch / "foreign-s2s", [mesh.b.domain, mesh.b.agents_domain])

    async def with_its_own_certificate(rogue):
        await rogue.open_stream()
        await rogue.start_tls(mesh.b.xmpp_certificate)
        await rogue.open_stream()
        assert await rogue.authenticate()
        await rogue.open_stream()

    async def plaintext(rogue):
        assert "<required" in await rogue.open_stream()

    async def plaintext_dialback(rogue):
        await rogue.open_stream()
        assert "type='valid'" not in await rogue.dial_back()

    async def foreign_authority(rogue):
        await rogue.open_stream()
        await rogue.start_tls(foreign)
        await rogue.open_stream()
        assert not await rogue.authenticate()

    async def foreign_authority_dialback(rogue):
        await rogue.open_stream()
        await rogue.start_tls(foreign)
        await rogue.open_stream()
        assert "type='valid'" not in await rogue.dial_back()

    async def no_certificate(rogue):
        await rogue.open_stream()
        await rogue.start_tls(None)
        await rogue.open_stream()
        assert not await rogue.authenticate()

    async def no_certificate_dialback(rogue):
        await rogue.open_stream()
        await rogue.start_tls(None)
        await rogue.open_stream()
        assert "type='valid'" not in await rogue.dial_back()

    # The same steps with the right certificate do deliver; without this the refusals would prove nothing.
    assert await delivered(mesh, client, with_its_own_certificate)
    for attempt in (plaintext, plaintext_dialback, foreign_authority, foreign_authority_dialback, no_certificate, no_certificate_dialback):
        assert not await delivered(mesh, client, attempt), attempt.__name__


async def test_a_server_that_is_no_peer_stays_out_whatever_its_certificate(mesh):
    await only_peers_talk(mesh, mesh.a, mesh.b)


async def only_peers_talk(mesh, hub, peer):
    """The servers of `aiox up` talk to each other's domains and to no other."""
    client = await (await hub.register("alice")).online()
    stranger = "hub-c.example"
    certificates = {domain: mesh.certificate_of_the_mesh(domain) for domain in (peer.domain, stranger)}

    async def with_a_certificate_of_the_mesh(rogue):
        if "policy-violation" in await rogue.open_stream():
            return
        await rogue.start_tls(certificates[rogue.claimed])
        await rogue.open_stream()
        await rogue.authenticate()
        await rogue.open_stream()

    # The peer's name with such a certificate opens the door; without this the refusal would prove nothing.
    assert await delivered(mesh, client, with_a_certificate_of_the_mesh, peer.domain)
    assert not await delivered(mesh, client, with_a_certificate_of_the_mesh, stranger)
    for address in (f"somebody@{stranger}", f"agent@agents.{stranger}"):
        asked = client.say(address, "hello?")
        error = await client.error_from(address)
        assert error["id"] == asked and error["error"]["condition"] in ("not-allowed", "forbidden"), error


async def test_nothing_is_sent_to_a_hub_with_a_foreign_certificate(mesh):
    client = await (await mesh.a.register("alice")).online()
    foreign = make_certificate(mesh.scratch / "foreign-server", [mesh.b.domain, mesh.b.agents_domain])
    seen = bytearray()
    async with mesh.stopped(mesh.b, "xmpp"), mesh.impostor(mesh.b, foreign, seen):
        asked = client.say(f"agent@{mesh.b.agents_domain}", "this is secret")
        error = await client.error_from(f"agent@{mesh.b.agents_domain}", within=60)
    assert error["id"] == asked, error
    assert b"stream:stream" in seen, "the hub never connected, so this proves nothing"
    assert b"this is secret" not in seen
