"""A model server (Ollama's chat wire) whose answers wait until the test lets them go."""

import asyncio
import json
from collections import Counter

from aiohttp import web


class SlowModel:
    """Answers `model: <message>`. While `hold` is in force, answers wait half-way."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._called = asyncio.Condition()
        self._open = asyncio.Event()
        self._open.set()
        application = web.Application()
        application.router.add_post("/api/chat", self._chat)
        self._runner = web.AppRunner(application)
        self.url = ""

    async def __aenter__(self) -> "SlowModel":
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=1)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_) -> None:
        self.release()
        await self._runner.cleanup()

    def hold(self) -> None:
        """From now on answers stop half-way."""
        self._open.clear()

    def release(self) -> None:
        """Lets all answers go on."""
        self._open.set()

    async def called(self, times: int, within: float = 30) -> None:
        """Waits until the model has been asked this often in all."""
        async with asyncio.timeout(within), self._called:
            await self._called.wait_for(lambda: self.calls.total() >= times)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        document = await request.json()
        said = document["messages"][-1]["content"]
        async with self._called:
            self.calls[said] += 1
            self._called.notify_all()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)

        async def part(text: str, **more) -> None:
            line = {"model": document["model"], "created_at": "2026-01-01T00:00:00Z",
                    "message": {"role": "assistant", "content": text}, "done": False} | more
            await response.write(json.dumps(line).encode() + b"\n")

        await part("model: ")
        await self._open.wait()
        await part(said)
        await part("", done=True, done_reason="stop", prompt_eval_count=len(said.split()), eval_count=2)
        await response.write_eof()
        return response
