"""Hub B behind ejabberd, hub A behind Prosody: each serves the people of the other."""

import aiohttp

from hub import Account
from mesh import Mesh
from test_hostile import survive_of
from test_chat import add_contact


async def enter_into_ejabberd(account: Account) -> Account:
    """Makes the XMPP account through the administration socket: the accounts of ejabberd are its own."""
    hub = account.hub
    document = {"user": account.username, "host": hub.domain, "password": account.password}
    connector = aiohttp.UnixConnector(path=str(hub.server_api))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://localhost/api/register", json=document) as response,
    ):
        assert response.status == 200, await response.text()
    return account


async def test_ejabberd_and_prosody_serve_each_others_people(_mesh):
    async with Mesh("--server-b", "ejabberd") as mesh:
        alice = await (await mesh.a.register("alice")).online()
        agent_of_b = await (await mesh.b.register("owner")).create_agent("behind-ejabberd")
        await talk(alice, agent_of_b)

        # Hub B need not know who talks to an agent of hub A; its own agents are for those that have an account of that name there.
        stranger = await (await enter_into_ejabberd(Account(mesh.b, "stranger", "correct horse battery", "127.0.0.1"))).online()
        agent_of_a = await (await mesh.a.register("owner")).create_agent("behind-prosody")
        await talk(stranger, agent_of_a)
        bob = await (await enter_into_ejabberd(await mesh.b.register("bob"))).online()
        await talk(bob, agent_of_a)
        await talk(bob, agent_of_b)

        alice.say(bob.jid, "hello bob")
        assert (await bob.answer_from(alice.jid))["body"] == "hello bob"
        mallory = await mesh.a.register("mallory")
        await survive_of(mallory, alice, agent_of_b)
        await mesh.end_test()


async def talk(client, agent: str) -> None:
    """Contact, question and answer."""
    await add_contact(client, agent)
    client.say(agent, "good morning", thread="thread-1")
    answer = await client.answer_from(agent)
    assert (answer["body"], answer["thread"]) == ("echo: good morning", "thread-1"), answer
