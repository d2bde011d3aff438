"""A person and an agent, on one hub and across two."""

import asyncio

from xmpp_client import CHAT_STATES


def presence_of(kind: str, contact: str):
    return lambda s: s.name == "presence" and s["type"] == kind and s["from"].bare == contact


def has_chat_state(state: str, contact: str):
    return lambda s: s.name == "message" and s["from"].bare == contact and s.xml.find(f"{{{CHAT_STATES}}}{state}") is not None


async def pairs(mesh):
    """A person of hub A with an agent of the same hub, and with one of the other hub."""
    alice = await mesh.a.register("alice")
    near_owner = await mesh.a.register("owner")
    far_owner = await mesh.b.register("owner")
    client = await alice.online()
    return client, [await near_owner.create_agent("near"), await far_owner.create_agent("far")]


async def add_contact(client, agent: str) -> None:
    client.stream.send_presence(pto=agent, ptype="subscribe")
    await client.expect(f"{agent} subscribed", presence_of("subscribed", agent))
    await client.expect(f"{agent} available", presence_of("available", agent))


async def test_an_agent_is_added_as_a_contact_and_seen_online(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        await add_contact(client, agent)
    # The agent answers the probe that the server sends when the person comes back.
    await client.logout()
    again = mesh.client_like(client)
    await again.login()
    for agent in agents:
        await again.expect(f"{agent} available after the new login", presence_of("available", agent))
        assert not again.received(presence_of("subscribe", agent)), "the agent wants to see the person"


async def test_an_agent_is_seen_composing_and_answers(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        await add_contact(client, agent)
        asked = client.say(agent, "good morning")
        await client.expect(f"{agent} composing", has_chat_state("composing", agent))
        answer = await client.answer_from(agent)
        assert answer["body"] == "echo: good morning", answer
        assert answer["type"] == "chat" and answer["id"] and answer["id"] != asked, answer


async def test_a_thread_is_kept(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        client.say(agent, "in a thread", thread="thread-1")
        assert (await client.answer_from(agent))["thread"] == "thread-1"
        client.say(agent, "outside")
        assert (await client.answer_from(agent))["thread"] == ""


async def test_a_receipt_comes_when_asked_for(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        asked = client.say(agent, "did you get it?", receipt=True)
        await client.expect(f"a receipt of {agent}", lambda s, a=agent: s.name == "message" and s["from"].bare == a and s["receipt"] == asked)
        await client.answer_from(agent)
        asked = client.say(agent, "and this?")
        await client.answer_from(agent)
        assert not client.received(lambda s: s.name == "message" and s["receipt"] == asked), "nobody asked for a receipt"


async def test_an_unknown_agent_does_not_exist(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        unknown = "nobody@" + agent.split("@")[1]
        asked = client.say(unknown, "anybody there?")
        error = await client.error_from(unknown)
        assert error["id"] == asked and error["error"]["type"] == "cancel", error
        assert error["error"]["condition"] == "item-not-found", error


async def test_a_private_agent_looks_like_a_missing_one(mesh):
    owner = await mesh.b.register("owner")
    private = await owner.create_agent("private", visibility="private")
    unknown = f"nobody@{mesh.b.agents_domain}"
    for hub in (mesh.a, mesh.b):
        client = await (await hub.register("stranger")).online()
        errors = []
        for address in (private, unknown):
            client.say(address, "hello?", id="same-id")
            error = await client.error_from(address)
            errors.append((error["id"], str(error["error"]).replace(address, "ADDRESS")))
        assert errors[0] == errors[1], errors
    client = await owner.online()
    client.say(private, "hello")
    assert (await client.answer_from(private))["body"] == "echo: hello"


async def test_a_message_that_is_sent_again_is_answered_once(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        for _ in range(3):
            client.say(agent, "once only", id=f"again-{agent}")
        client.say(agent, "last")
        answers = [(await client.answer_from(agent))["body"] for _ in range(2)]
        assert sorted(answers) == ["echo: last", "echo: once only"], answers
        # Everything before is answered when the answer to one more message is here.
        client.say(agent, "really last")
        assert (await client.answer_from(agent))["body"] == "echo: really last"
        assert not client.received(lambda s, a=agent: s.name == "message" and s["from"].bare == a and s["body"])


async def test_people_of_two_hubs_talk_to_each_other(mesh):
    alice, bob = await (await mesh.a.register("alice")).online(), await (await mesh.b.register("bob")).online()
    alice.say(bob.jid, "hello bob")
    assert (await bob.answer_from(alice.jid))["body"] == "hello bob"
    bob.say(alice.jid, "hello alice")
    assert (await alice.answer_from(bob.jid))["body"] == "hello alice"


async def test_many_messages_at_once_are_all_answered(mesh):
    client, agents = await pairs(mesh)
    for agent in agents:
        for number in range(50):
            client.say(agent, f"number {number}")
    for agent in agents:
        answers = await asyncio.gather(*(client.answer_from(agent, within=60) for _ in range(50)))
        assert sorted(a["body"] for a in answers) == sorted(f"echo: number {n}" for n in range(50))
