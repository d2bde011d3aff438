"""A run as a REST user sees it live: the server-sent events of a chat call."""

import asyncio
import json

import aiohttp


def data_lines(stream: str) -> list[str]:
    """The `data` lines of a stream that has ended, as they came."""
    return [line.removeprefix("data:").strip() for line in stream.split("\n") if line.startswith("data:")]


class RunStream:
    """Reads one response. `raw` is everything that was read."""

    def __init__(self, content: aiohttp.StreamReader):
        self._content = content
        self._text = ""
        self.raw = ""

    async def event(self, name: str, within: float = 60):
        """The data of the next event of this name; live text before it is kept for `hear`."""
        async with asyncio.timeout(within):
            while True:
                found, data = await self._next()
                if found == "run.delta":
                    self._text += data["text"]
                if found == name:
                    return data

    async def run_event(self, kind: str) -> dict:
        """The next event of the run's own log that is of this kind."""
        while (event := await self.event("run.event"))["type"] != kind:
            pass
        return event

    async def hear(self, text: str) -> None:
        """Until the live text is `text` and nothing else."""
        while self._text != text:
            assert text.startswith(self._text), f"{self._text!r} instead of {text!r}"
            await self.event("run.delta")

    async def _next(self) -> tuple[str, object]:
        name, data = "message", []
        while True:
            line = (await self._content.readline()).decode()
            if not line:
                raise AssertionError(f"the stream ended after\n{self.raw}")
            self.raw += line
            field, _, value = line.rstrip("\n").partition(":")
            if field == "event":
                name = value.strip()
            elif field == "data":
                data.append(value.strip())
            elif line == "\n" and data:
                return name, json.loads("\n".join(data))
