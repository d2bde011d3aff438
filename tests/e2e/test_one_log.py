"""A run has one log, whoever reads it, on whichever hub, and after every process was killed."""

import asyncio
import json

from peer_reader import PeerReader

WHOLE = [
    "agentos.run.created", "agentos.run.step.started", "agentos.model.requested",
    "agentos.model.completed", "agentos.run.step.completed", "agentos.run.completed",
]


async def test_every_event_is_the_same_on_both_hubs_and_after_a_restart(mesh):
    """Through the hub that asked, through the hub that executes, at each door, before and after kill -9 of both hubs: the same events with
    the same ids and sequences."""
    bob = await mesh.b.register("bob")
    agent = await bob.create_agent("log")
    alice = await mesh.a.register("alice")
    far = (await alice.rest("POST", f"/v1/agents/{agent}/runs", {"input": "süß \u2028"}))["run"]["run_id"]
    near = (await bob.rest("POST", f"/v1/agents/{agent}/runs", {"input": "near"}))["run"]["run_id"]
    before = await read(mesh, alice, bob, far, near)
    for part in before.values():
        assert part, before
    assert types(before["asking hub"]) == types(before["home hub, its own run"]) == WHOLE
    assert before["asking hub"] == before["asking hub, federation"]
    stored, executed = before["asking hub, /api/v1"], before["home hub, to its peer"]
    assert [json.loads(line) for line in stored] == executed
    shown = [json.loads(line)["event"] for line in before["asking hub"]]
    assert [(event["sequence"], event["time"]) for event in shown] == [(event["sequence"], event["time"]) for event in executed]
    assert len({event["event_id"] for event in shown}) == len(shown)
    await asyncio.gather(mesh.kill(mesh.a, "hub"), mesh.kill(mesh.b, "hub"))
    await mesh.up()
    after = await read(mesh, alice, bob, far, near)
    for reader, lines in before.items():
        assert after[reader] == lines, reader


async def read(mesh, alice, bob, far: str, near: str) -> dict[str, list]:
    """What each reader has of the run for a peer's agent, and of the other one. Each read waits for the end of its run."""
    uuid = (await alice.rest("GET", f"/api/v1/runs/{far}"))["id"]
    return {
        "asking hub": await alice.data_lines(f"/v1/runs/{far}/events"),
        "asking hub, federation": await alice.data_lines(f"/v1/federation/runs/{far}/events"),
        "asking hub, /api/v1": await alice.data_lines(f"/api/v1/runs/{uuid}/events"),
        "home hub, to its peer": await PeerReader(mesh.directory, mesh.a, mesh.b).events(uuid),
        "home hub, its own run": await bob.data_lines(f"/v1/runs/{near}/events"),
    }


def types(lines: list[str]) -> list[str]:
    """Types of events of `/v1`."""
    return [json.loads(line)["event"]["type"] for line in lines]
