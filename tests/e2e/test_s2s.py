"""Only hubs of the mesh federate, and only over TLS."""

from foreign_pki import make_certificate
from rogue_hub import RogueHub


async def delivered(mesh, client, attempt) -> bool:
    """Whether a message of an attempt by a false hub B reaches `client` on hub A."""
    text = f"rogue {id(attempt)}"
    async with RogueHub(mesh.b.domain, mesh.a.domain, mesh.a.s2s) as rogue:
        await attempt(rogue)
        await rogue.send_message(f"mallory@{mesh.b.domain}", client.jid, text)
        # The hub has worked through what it was sent when it answers, or ends, this stream.
        await rogue.send("</stream:stream>")
        await rogue.read_until("</stream:stream>")
    sender = await (await mesh.b.register("bob")).online()
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
