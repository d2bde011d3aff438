"""A model server (OpenAI's chat.completions wire) whose answers the test speaks token by token."""

import asyncio
import json

from aiohttp import web

API_KEY = "sk-e2e-0123456789"
# Stands in every refusal of this server, and must stand in nothing that a user sees.
INTERNAL_TEXT = "shard-17.internal"


class Turn:
    """One request that waits for its answer."""

    def __init__(self) -> None:
        self._tokens: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, token: str) -> None:
        """The next piece of the answer."""
        self._tokens.put_nowait(token)

    def end(self) -> None:
        """The answer is complete."""
        self._tokens.put_nowait(None)

    async def next(self) -> str | None:
        """For the server: the next piece, or None at the end."""
        return await self._tokens.get()


class TokenModel:
    """Requests are found by what the user said last. `refuse NNN` is answered with that HTTP status."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._asked = asyncio.Condition()
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(application)
        self.url = ""

    async def __aenter__(self) -> "TokenModel":
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, shutdown_timeout=1)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_) -> None:
        await self._runner.cleanup()

    def environment(self, name: str) -> dict[str, str]:
        """Variables that make this server the provider `name` of hubs and workers."""
        prefix = f"AIOX__WORKER__PROVIDERS__{name.upper()}__"
        return {
            f"{prefix}KIND": "openai_compatible",
            f"{prefix}BASE_URL": self.url,
            f"{prefix}API_KEY": API_KEY,
            f"{prefix}MODEL": "token-model",
            "AIOX__LLM__PROVIDERS": json.dumps([name]),
        }

    async def turn(self, said: str, within: float = 30) -> Turn:
        """The request for an answer to `said`, received already or still to come."""
        async with asyncio.timeout(within), self._asked:
            await self._asked.wait_for(lambda: said in self._turns)
            return self._turns.pop(said)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _refusal(403)
        document = await request.json()
        said = document["messages"][-1]["content"]
        if said.startswith("refuse "):
            return _refusal(int(said.removeprefix("refuse ")))
        turn = Turn()
        async with self._asked:
            self._turns[said] = turn
            self._asked.notify_all()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(choices: list, **more) -> None:
            chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": document["model"], "choices": choices} | more
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

        await send([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        count = 0
        while (token := await turn.next()) is not None:
            count += 1
            await send([{"index": 0, "delta": {"content": token}, "finish_reason": None}])
        await send([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        await send([], usage={"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _refusal(status: int) -> web.Response:
    problem = {"error": {"message": f"{INTERNAL_TEXT} refused {API_KEY}", "type": "server_error", "code": "secret_condition"}}
    return web.json_response(problem, status=status)
