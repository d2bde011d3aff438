"""A run that was accepted is executed and answered once, whatever dies meanwhile."""

import asyncio
from collections import Counter

IN_FLIGHT = 40


async def slow_agent_of_b(mesh) -> str:
    owner = await mesh.b.register("owner")
    return await owner.create_agent("slow", llm_config={"provider": "ollama", "model": "slow"})


async def hand_over(person, agent: str, text: str) -> dict:
    """A run that nobody waits for."""
    return await person.rest("POST", f"/api/v1/agents/{agent}/chat", {"message": text, "detach": True})


async def answered_once(person, agent: str, texts: dict[str, str]) -> None:
    """The history has each run (id -> what was asked) with one question and one answer, and nothing else."""
    history = await person.rest("GET", f"/api/v1/agents/{agent}/history?page_size=100")
    found = Counter((m["run_id"], m["role"], m["content"]) for m in history)
    expected = Counter()
    for run_id, text in texts.items():
        expected[run_id, "user", text] = expected[run_id, "assistant", f"model: {text}"] = 1
    assert found == expected, (found - expected, expected - found)


async def test_a_run_for_a_stopped_hub_waits_and_is_delivered_once(mesh):
    agent = await slow_agent_of_b(mesh)
    alice = await mesh.a.register("alice")
    text = f"are you back, {agent}?"
    async with mesh.stopped(mesh.b, "hub"):
        accepted = await hand_over(alice, agent, text)
        run = await alice.rest("GET", f"/api/v1/runs/{accepted['id']}")
        assert (run["status"], run["peer"]) == ("queued", mesh.b.domain), run
    run = await alice.run_ended(accepted["id"])
    assert (run["status"], run["output"], run["delivery"]) == ("completed", f"model: {text}", "delivered"), run
    await answered_once(alice, agent, {run["id"]: text})
    assert mesh.model.calls[text] == 1, mesh.model.calls


async def test_a_waiting_run_survives_the_death_of_its_own_hub(mesh):
    agent = await slow_agent_of_b(mesh)
    alice = await mesh.a.register("alice")
    text = f"still there, {agent}?"
    async with mesh.stopped(mesh.b, "hub"):
        accepted = await hand_over(alice, agent, text)
        run = await alice.rest("GET", f"/api/v1/runs/{accepted['id']}")
        assert run["status"] == "queued", run
        await mesh.kill(mesh.a, "hub")
    run = await alice.run_ended(accepted["id"])
    assert (run["status"], run["output"]) == ("completed", f"model: {text}"), run
    await answered_once(alice, agent, {run["id"]: text})
    assert mesh.model.calls[text] == 1, mesh.model.calls


async def complete_in_spite_of(mesh, hub) -> None:
    """40 runs of users of both hubs are on their way when a hub is killed: the first of each user with the model, as one
    conversation is answered in its order, and the others in the queue."""
    agent = await slow_agent_of_b(mesh)
    people = [await home.register("asker") for home in (mesh.a, mesh.b) for _ in range(4)]
    mesh.model.hold()
    before = mesh.model.calls.total()
    asked = {}
    for person in people:
        texts = [f"{person.username} {number}" for number in range(IN_FLIGHT // len(people))]
        runs = await asyncio.gather(*(hand_over(person, agent, text) for text in texts))
        asked[person.username] = {run["id"]: text for run, text in zip(runs, texts, strict=True)}
    await mesh.model.called(before + len(people))
    await mesh.kill(hub, "hub")
    mesh.model.release()
    await mesh.up()
    for person in people:
        texts = asked[person.username]
        for run in await asyncio.gather(*(person.run_ended(run_id) for run_id in texts)):
            assert (run["status"], run["output"]) == ("completed", f"model: {texts[run['id']]}"), run
        await answered_once(person, agent, texts)
    assert sum(map(len, asked.values())) == IN_FLIGHT


async def test_40_runs_survive_the_death_of_the_hub_that_executes_them(mesh):
    await complete_in_spite_of(mesh, mesh.b)


async def test_40_runs_survive_the_death_of_the_hub_that_asked(mesh):
    await complete_in_spite_of(mesh, mesh.a)
