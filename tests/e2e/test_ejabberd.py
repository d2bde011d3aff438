"""Hub B behind ejabberd, hub A behind Prosody: the hub's accounts are both servers' accounts, and each serves the people of the other."""

from mesh import Mesh
from test_accounts import follow_an_account
from test_chat import add_contact
from test_hostile import survive_of
from test_s2s import only_peers_talk
from test_token_login import tokens_open


async def test_ejabberd_and_prosody_serve_each_others_people(_mesh):
    async with Mesh("--server-b", "ejabberd") as mesh:
        alice = await (await mesh.a.register("alice")).online()
        agent_of_b = await (await mesh.b.register("owner")).create_agent("behind-ejabberd")
        await talk(alice, agent_of_b)

        agent_of_a = await (await mesh.a.register("owner")).create_agent("behind-prosody")
        bob = await (await mesh.b.register("bob")).online()
        await talk(bob, agent_of_a)
        await talk(bob, agent_of_b)

        alice.say(bob.jid, "hello bob")
        assert (await bob.answer_from(alice.jid))["body"] == "hello bob"
        mallory = await mesh.a.register("mallory")
        await survive_of(mallory, alice, agent_of_b)
        await mesh.end_test()

        await follow_an_account(mesh, mesh.b)
        await tokens_open(mesh, mesh.b)
        await only_peers_talk(mesh, mesh.b, mesh.a)
        await mesh.end_test()


async def talk(client, agent: str) -> None:
    """Contact, question and answer."""
    await add_contact(client, agent)
    client.say(agent, "good morning", thread="thread-1")
    answer = await client.answer_from(agent)
    assert (answer["body"], answer["thread"]) == ("echo: good morning", "thread-1"), answer
