"""One person, one agent of another hub, three ways in: it is one conversation, with the same runs on both hubs."""

import asyncio


async def test_xmpp_and_rest_of_one_account_are_one_conversation(mesh):
    owner = await mesh.b.register("owner")
    agent = await owner.create_agent("shared")
    alice = await mesh.a.register("alice")
    client = await alice.online()

    client.say(agent, "said by XMPP")
    by_xmpp = await client.answer_from(agent)
    assert by_xmpp["body"] == "echo: said by XMPP", by_xmpp
    by_rest = await alice.rest("POST", f"/api/v1/agents/{agent}/chat", {"message": "said by REST"})
    client.say(agent, "said by XMPP again")
    await client.answer_from(agent)

    history = await alice.rest("GET", f"/api/v1/agents/{agent}/history?page_size=100")
    assert [(m["role"], m["content"]) for m in history] == [
        ("user", "said by XMPP"), ("assistant", "echo: said by XMPP"),
        ("user", "said by REST"), ("assistant", "echo: said by REST"),
        ("user", "said by XMPP again"), ("assistant", "echo: said by XMPP again"),
    ], history
    runs = [history[place]["run_id"] for place in range(0, 6, 2)]
    assert runs == [history[place]["run_id"] for place in range(1, 6, 2)], history
    assert len(set(runs)) == 3 and runs[1] == by_rest["run_id"], (runs, by_rest)
    assert len({m["id"] for m in history}) == 6, history


async def test_a_run_has_one_id_on_both_hubs(mesh):
    owner = await mesh.b.register("owner")
    agent = await owner.create_agent("traced")
    alice = await mesh.a.register("alice")
    answers = [await alice.rest("POST", f"/api/v1/agents/{agent}/chat", {"message": f"number {n}"}) for n in range(3)]
    ids = [answer["run_id"] for answer in answers]
    # Hub A keeps the runs; what hub B has of them comes from hub B.
    kept = await asyncio.gather(*(alice.rest("GET", f"/api/v1/runs/{run_id}") for run_id in ids))
    assert [(run["id"], run["status"], run["peer"]) for run in kept] == [(run_id, "completed", mesh.b.domain) for run_id in ids], kept
    history = await alice.rest("GET", f"/api/v1/agents/{agent}/history?page_size=100")
    assert [m["run_id"] for m in history if m["role"] == "assistant"] == ids, history


async def test_another_account_of_the_same_hub_sees_none_of_it(mesh):
    owner = await mesh.b.register("owner")
    agent = await owner.create_agent("shared")
    alice, mallory = await mesh.a.register("alice"), await mesh.a.register("mallory")
    answer = await alice.rest("POST", f"/api/v1/agents/{agent}/chat", {"message": "between us"})
    assert await mallory.rest("GET", f"/api/v1/agents/{agent}/history") == []
    refusal = await mallory.refusal("GET", f"/api/v1/runs/{answer['run_id']}")
    assert refusal.status == 404, refusal
