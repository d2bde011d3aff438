"""Who may no longer use an agent no longer sees it."""

from test_chat import add_contact, presence_of
from test_isolation import agent_of


async def test_a_revoked_grant_and_a_deleted_agent_are_left_on_both_hubs(mesh):
    owner = await mesh.b.register("owner")
    private = await owner.create_agent("private", visibility="private")
    uuid = (await agent_of(owner, private))["id"]
    far, near = [await (await hub.register("guest")).online() for hub in (mesh.a, mesh.b)]
    grants = []
    for guest in (far, near):
        grants.append(await owner.rest("POST", f"/api/v1/agents/{uuid}/grants", {"kind": "jid", "grantee": guest.jid}))
        await add_contact(guest, private)

    await owner.rest("DELETE", f"/api/v1/agents/{uuid}/grants/{grants[0]['id']}")
    await is_left(far, private)
    assert not near.received(presence_of("unsubscribed", private)), "the other guest was left too"
    await owner.rest("DELETE", f"/api/v1/agents/{uuid}")
    await is_left(near, private)


async def test_the_owner_reads_once_who_was_denied(mesh):
    owner = await mesh.b.register("owner")
    private = await owner.create_agent("private", visibility="private")
    uuid = (await agent_of(owner, private))["id"]
    stranger = await (await mesh.a.register("stranger")).online()
    for text in ("let me in", "please"):
        stranger.say(private, text)
        await stranger.error_from(private)
    # A second stranger, whose record comes after those of the first.
    witness = await (await mesh.a.register("witness")).online()
    witness.say(private, "me too")
    await witness.error_from(private)
    while len(denied := await denials(owner)) < 2:
        await mesh.breathe()
    told = sorted(record["details"]["message"] for record in denied)
    assert told == sorted(f"{client.jid} by XMPP" for client in (stranger, witness)), denied
    assert all(record["resource_id"] == uuid for record in denied), denied


async def denials(owner) -> list[dict]:
    return await owner.rest("GET", "/api/v1/governance/audit?event_type=auth.denied&page_size=100")


async def is_left(client, agent: str) -> None:
    """The agent has gone offline and ended the subscription, and the person's server has noted that."""
    await client.expect(f"{agent} unavailable", presence_of("unavailable", agent))
    await client.expect(f"{agent} unsubscribed", presence_of("unsubscribed", agent))
    await client.stream.get_roster()
    assert client.stream.client_roster[agent]["subscription"] == "none", client.stream.client_roster[agent]
