"""Who has no grant cannot tell a private agent from one that does not exist, on no door and on neither hub."""

from hub import RestError


FORBIDDEN = 403, {"error": "access denied: ownership mismatch", "code": "forbidden", "retryable": False}
NOT_FOUND = 404, {"error": "agent not found", "code": "not_found", "retryable": False}


def told(refusal: RestError) -> tuple[int, dict]:
    """Status and body without what differs with every request."""
    return refusal.status, {name: value for name, value in refusal.body.items() if name not in ("correlation_id", "run_id")}


async def private_and_missing(mesh):
    """The owner, a private agent of hub B, and an address there that nobody has."""
    owner = await mesh.b.register("owner")
    private = await owner.create_agent("private", visibility="private")
    return owner, private, "nobody" + private[len("private"):]


async def test_rest_does_not_tell_a_private_agent_from_a_missing_one(mesh):
    owner, private, missing = await private_and_missing(mesh)
    # The owner has talked with it, so that there is something to be hidden.
    await owner.rest("POST", f"/api/v1/agents/{private}/chat", {"message": "hello"})
    uuid = (await agent_of(owner, private))["id"]
    nobody = "01a1f000-0000-7000-8000-000000000000"
    for hub in (mesh.b, mesh.a):
        stranger = await hub.register("stranger")
        pairs = [(private, missing)]
        if hub is mesh.b:
            pairs += [(private.split("@")[0], missing.split("@")[0]), (uuid, nobody)]
        for existing, absent in pairs:
            questions = [("POST", "/chat", {"message": "hello"}), ("GET", "/history", None)]
            # Of other hubs' agents these lists are what the stranger has tried here, whatever came of it.
            questions += [("GET", "/conversations", None), ("GET", "/executions", None)] if hub is mesh.b else []
            for method, path, document in questions:
                answers = [await outcome(stranger, method, f"/api/v1/agents/{name}{path}", document) for name in (existing, absent)]
                assert answers[0] == answers[1], (hub.domain, method, path, existing, answers)
                if path in ("/chat", "/history"):
                    assert answers[0][0] == 404, (hub.domain, path, answers)
            streamed = [await refused_stream(stranger, name) for name in (existing, absent)]
            assert streamed[0] == streamed[1] == NOT_FOUND[1], (hub.domain, existing, streamed)
        # Management is by id. The published contract says 403 to whoever knows the id of an agent of somebody else, and no more.
        expected = FORBIDDEN if hub is mesh.b else NOT_FOUND
        for method, path, document in [
            ("GET", "", None), ("DELETE", "", None), ("GET", "/grants", None), ("GET", "/audit", None), ("PUT", "", {"name": "mine"}),
            ("POST", "/grants", {"kind": "jid", "grantee": stranger.jid}),
        ]:
            answer = told(await stranger.refusal(method, f"/api/v1/agents/{uuid}{path}", document))
            assert answer == expected, (hub.domain, method, path, answer)
        lists = ["/api/v1/agents", "/api/v1/mesh/agents"] + (["/api/v1/runs", "/api/v1/conversations"] if hub is mesh.b else [])
        for path in lists:
            listed = str(await stranger.rest("GET", f"{path}?page_size=100"))
            assert uuid not in listed and private.split("@")[0] not in listed, (path, listed)
    assert await owner.rest("GET", f"/api/v1/agents/{uuid}/grants") == []


async def test_a_grant_opens_an_agent_for_one_address_until_it_is_revoked(mesh):
    owner, private, missing = await private_and_missing(mesh)
    uuid = (await agent_of(owner, private))["id"]
    for hub in (mesh.b, mesh.a):
        guest, stranger = await hub.register("guest"), await hub.register("guest")
        by_guest, by_stranger = await guest.online(), await stranger.online()
        await is_closed_for(guest, by_guest, private, missing)
        grant = await owner.rest("POST", f"/api/v1/agents/{uuid}/grants", {"kind": "jid", "grantee": guest.jid})

        by_guest.say(private, "by XMPP")
        assert (await by_guest.answer_from(private))["body"] == "echo: by XMPP"
        assert (await guest.rest("POST", f"/api/v1/agents/{private}/chat", {"message": "by REST"}))["response"] == "echo: by REST"
        await is_closed_for(stranger, by_stranger, private, missing)

        await owner.rest("DELETE", f"/api/v1/agents/{uuid}/grants/{grant['id']}")
        await is_closed_for(guest, by_guest, private, missing)
    by_owner = await owner.online()
    by_owner.say(private, "still mine")
    assert (await by_owner.answer_from(private))["body"] == "echo: still mine"


async def is_closed_for(person, client, private: str, missing: str) -> None:
    """Both doors say of the agent what they say of one that does not exist."""
    answers = [told(await person.refusal("POST", f"/api/v1/agents/{name}/chat", {"message": "let me in"})) for name in (private, missing)]
    assert answers[0] == answers[1] and answers[0][0] == 404, answers
    errors = []
    for address in (private, missing):
        client.say(address, "let me in", id="same-id")
        errors.append(str(await client.error_from(address)).replace(address, "ADDRESS"))
    assert without_stream_ids(errors[0]) == without_stream_ids(errors[1]), errors
    assert "item-not-found" in errors[0], errors


def without_stream_ids(text: str) -> str:
    """A stanza as its sender wrote it: archives add an id of their own."""
    return "".join(part for part in text.split("<") if not part.startswith("stanza-id"))


async def agent_of(owner, address: str) -> dict:
    handle = address.split("@")[0]
    return next(agent for agent in await owner.rest("GET", "/api/v1/agents?page_size=100") if agent["handle"] == handle)


async def outcome(person, method: str, path: str, document) -> tuple[int, object]:
    """Status and body, whatever the hub decides."""
    try:
        return 200, await person.rest(method, path, document)
    except RestError as refusal:
        return told(refusal)


async def refused_stream(person, agent: str) -> dict:
    """What a stream is refused with: at once here, and by an event where another hub decides."""
    try:
        async with person.stream(agent, "hello") as stream:
            refusal = RestError(200, await stream.event("error"))
    except RestError as immediate:
        refusal = immediate
    return told(refusal)[1]
