"""What any local or federated user can send must not hurt the hub: the next message is answered."""

NS_CLIENT = "jabber:client"


def hostile_stanzas(agent: str) -> dict[str, str]:
    """Well-formed XML that is not good XMPP, or too much of it, by name."""
    deep = 3000
    return {
        "nested deeply": f"<message to='{agent}' type='chat'>" + "<a>" * deep + "</a>" * deep + "<body>x</body></message>",
        "long attribute": f"<message to='{agent}' type='chat' id='h1'><body>x</body><x xmlns='urn:x' long='{'y' * 20_000}'/></message>",
        "long id": f"<message to='{agent}' type='chat' id='{'i' * 20_000}'><body>x</body></message>",
        "long namespace": f"<message to='{agent}' type='chat' id='h2'><body>x</body><x xmlns='urn:{'n' * 20_000}'/></message>",
        "many children": f"<message to='{agent}' type='chat' id='h3'>" + "<x xmlns='urn:x'/>" * 5000 + "</message>",
        "iq without child": f"<iq to='{agent}' type='get' id='h4'/>",
        "iq with two children": f"<iq to='{agent}' type='get' id='h5'><a xmlns='urn:a'/><b xmlns='urn:b'/></iq>",
        "iq error without error": f"<iq to='{agent}' type='error' id='h6'/>",
        "iq result out of the blue": f"<iq to='{agent}' type='result' id='h7'/>",
        "unknown message type": f"<message to='{agent}' type='foo' id='h8'><x xmlns='urn:x'/></message>",
        "empty show": f"<presence to='{agent}'><show/></presence>",
        "unknown show": f"<presence to='{agent}'><show>bogus</show></presence>",
        "two shows": f"<presence to='{agent}'><show>away</show><show>dnd</show></presence>",
        "priority out of range": f"<presence to='{agent}'><priority>999</priority></presence>",
        "empty priority": f"<presence to='{agent}'><priority/></presence>",
        "two threads": f"<message to='{agent}' type='chat' id='h9'><thread>a</thread><thread>b</thread><x xmlns='urn:x'/></message>",
        "message error": f"<message to='{agent}' type='error' id='h10'><error type='cancel'/></message>",
        "error without error": f"<message to='{agent}' type='error' id='h11'/>",
        "unknown presence type": f"<presence to='{agent}' type='subscribe'><priority>x</priority></presence>",
        "big body": f"<message to='{agent}' type='chat' id='h12'><body>{'b' * 200_000}</body></message>",
    }


async def survive(sender_hub, agent_hub):
    owner = await agent_hub.register("owner")
    agent = await owner.create_agent("target")
    await survive_of(await sender_hub.register("mallory"), await (await agent_hub.register("witness")).online(), agent)


async def survive_of(sender, witness, agent: str):
    """The agent still answers the witness, and the sender, after each stanza of the sender."""
    hurt = []
    for name, stanza in hostile_stanzas(agent).items():
        # Own session for each: the sender's server may end it, which is its own affair.
        client = await sender.online()
        client.stream.send_raw(stanza)
        try:
            witness.say(agent, f"after {name}")
            await witness.expect(
                f"an answer after {name}",
                lambda s, n=name: s.name == "message" and s["body"] == f"echo: after {n}",
            )
            if not client.lost.is_set():
                client.say(agent, f"me too after {name}")
                await client.expect(
                    f"an answer after {name}",
                    lambda s, n=name: s.name == "message" and s["body"] == f"echo: me too after {n}",
                )
        except AssertionError as problem:
            if not client.lost.is_set():
                hurt.append(f"{name}: {problem}")
        await client.logout()
    assert not hurt, "\n".join(hurt)


async def test_a_local_user_cannot_hurt_the_hub(mesh):
    await survive(mesh.b, mesh.b)


async def test_a_federated_user_cannot_hurt_the_hub(mesh):
    await survive(mesh.a, mesh.b)
