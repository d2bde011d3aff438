"""kill -9 in the middle of runs: every message that was accepted is answered, and none twice.

Accepted is what the agent has confirmed with a receipt (XEP-0184). A component link has no acknowledgement of its own (XEP-0114), so that a
message can be lost between server and hub; like a person who misses the mark of a receipt, the clients here send such a message again.
"""

import asyncio

ROUND = 12


class Conversation:
    """One person and one agent; messages that bounce or go down with a connection are sent again under their id."""

    def __init__(self, mesh, account, agent: str):
        self._mesh = mesh
        self._account = account
        self._agent = agent
        self._client = None
        self.waiting: dict[str, str] = {}
        self.answers: dict[str, set[str]] = {}

    async def start(self, count: int) -> None:
        self._client = await self._account.online()
        for number in range(count):
            self.ask(str(number))

    def ask(self, what: str) -> None:
        text = f"{self._account.username} {what}"
        self.answers[text] = set()
        self.waiting[self._client.say(self._agent, text, receipt=True)] = text

    def send_unconfirmed_again(self) -> None:
        """What has no receipt may never have arrived."""
        if self._client.lost.is_set():
            return
        confirmed = {stanza["receipt"] for stanza in self._client.received(lambda s: s.name == "message" and s["receipt"])}
        self._send_again(self.waiting.keys() - confirmed)

    async def finish(self) -> None:
        """Until every message has its answer."""
        while self.waiting:
            if self._client.lost.is_set():
                self._client = await self._mesh.login_patiently(self._account)
                self._send_again(self.waiting)
            heard = asyncio.ensure_future(
                self._client.expect(f"{len(self.waiting)} answers", lambda s: s.name == "message" and s["from"].bare == self._agent
                                    and (s["body"] or s["type"] == "error"), within=120)
            )
            lost = asyncio.ensure_future(self._client.lost.wait())
            await asyncio.wait((heard, lost), return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if not heard.done():
                heard.cancel()
                continue
            await self._take(heard.result())

    async def _take(self, stanza) -> None:
        if stanza["type"] == "error":
            # Not accepted: only such messages may be lost, and the person's client offers them again.
            # The server says recipient-unavailable of stanzas that a lost s2s stream had not acknowledged (XEP-0198).
            problem = stanza["error"]
            assert problem["type"] == "wait" or problem["condition"] == "recipient-unavailable", stanza
            await self._mesh.breathe()
            if stanza["id"] in self.waiting:
                self._send_again([stanza["id"]])
            return
        text = stanza["body"].removeprefix("model: ")
        self.answers[text].add(stanza["id"])
        self.waiting = {id: other for id, other in self.waiting.items() if other != text}

    def _send_again(self, ids) -> None:
        for id in ids:
            self._client.say(self._agent, self.waiting[id], id=id, receipt=True)

    async def settle(self) -> None:
        """One more message: what was on its way before it is here when its answer is."""
        self.ask("settled")
        await self.finish()
        for stanza in self._client.received(lambda s: s.name == "message" and s["from"].bare == self._agent and s["body"]):
            self.answers[stanza["body"].removeprefix("model: ")].add(stanza["id"])


async def survive_the_death_of(mesh, hub, part: str) -> None:
    owner = await mesh.b.register("owner")
    agent = await owner.create_agent("slow", llm_config={"provider": "ollama", "model": "slow"})
    talks = [
        Conversation(mesh, await mesh.a.register("far"), agent),
        Conversation(mesh, await mesh.b.register("near"), agent),
    ]
    mesh.model.hold()
    before = mesh.model.calls.total()
    for talk in talks:
        await talk.start(ROUND)
    # Some runs are with the model now, the others wait in the queue.
    await mesh.model.called(before + 2)
    await mesh.kill(hub, part)
    mesh.model.release()
    await mesh.up()
    for talk in talks:
        talk.send_unconfirmed_again()
    await asyncio.gather(*(talk.finish() for talk in talks))
    for talk in talks:
        await talk.settle()
        wrong = {text: ids for text, ids in talk.answers.items() if len(ids) != 1}
        assert not wrong, f"answers to each message after the death of {part}: {wrong}"


async def test_a_killed_worker_loses_nothing(mesh):
    await survive_the_death_of(mesh, mesh.b, "worker")


async def test_a_killed_hub_loses_nothing(mesh):
    await survive_the_death_of(mesh, mesh.b, "hub")


async def test_a_killed_xmpp_server_of_the_agent_loses_nothing(mesh):
    await survive_the_death_of(mesh, mesh.b, "xmpp")


async def test_a_killed_xmpp_server_of_the_person_loses_nothing(mesh):
    await survive_the_death_of(mesh, mesh.a, "xmpp")
