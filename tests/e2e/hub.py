"""One running hub as its users see it: REST accounts and agents, and XMPP clients."""

import asyncio
import contextlib
import itertools
import json
import secrets
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

import documented
from run_stream import RunStream, data_lines
from xmpp_client import LoginRefused, XmppClient

# Each account registers from a loopback address of its own, because sign-up is limited by address.
_source_addresses = (f"127.1.{high}.{low}" for high, low in itertools.product(range(256), range(1, 255)))
_numbers = itertools.count(1)
# Names must not meet those of an earlier run on the same data.
_run = secrets.token_hex(3)


class RestError(Exception):
    """An answer that was not 2xx."""

    def __init__(self, status: int, body):
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.body = body


@dataclass
class Hub:
    """Where a hub listens. `processes` are the pid files of its parts by name; `credentials` is the file of its first accounts."""

    domain: str
    http: str
    c2s: tuple[str, int]
    s2s: tuple[str, int]
    ca: Path
    xmpp_certificate: tuple[Path, Path]
    processes: dict[str, Path]
    credentials: Path
    clients: list[XmppClient] = field(default_factory=list)

    @property
    def agents_domain(self) -> str:
        """Domain of the hub's agents."""
        return f"agents.{self.domain}"

    async def register(self, name: str) -> "Account":
        """A new account named after `name`, made over REST."""
        username = f"{name}-{_run}-{next(_numbers)}"
        account = Account(self, username, secrets.token_urlsafe(16), next(_source_addresses))
        document = {"email": f"{username}@mail.example", "password": account.password, "username": username}
        pair = await account.rest("POST", "/api/v1/auth/register", document)
        account.token = pair["access_token"]
        return account

    async def operator(self) -> "Account":
        """The administrator whom `aiox up` made."""
        made = json.loads(self.credentials.read_text())["admin"]
        account = Account(self, made["username"], made["password"], next(_source_addresses))
        await account.log_in()
        return account


@dataclass
class Account:
    """A user of a hub."""

    hub: Hub
    username: str
    password: str
    source_address: str
    token: str | None = None

    @property
    def jid(self) -> str:
        """Bare XMPP address."""
        return f"{self.username}@{self.hub.domain}"

    async def rest(self, method: str, path: str, document=None):
        """Calls the hub as this user; returns the answer's `data`, or the whole answer where it has none."""
        async with self._session() as session, session.request(method, self.hub.http + path, json=document) as response:
            body = await response.json(content_type=None) if response.content_length != 0 else None
            documented.judge(method, path, response.status, response.content_type, body)
            if response.status >= 300:
                raise RestError(response.status, body)
            return body["data"] if isinstance(body, dict) and "data" in body else body

    async def log_in(self) -> None:
        """Signs in over REST; the token of before is forgotten."""
        self.token = None
        pair = await self.rest("POST", "/api/v1/auth/login", {"username": self.username, "password": self.password})
        self.token = pair["access_token"]

    async def change_password(self, password: str) -> None:
        """Sets a new password over REST, which ends every session there."""
        await self.rest("POST", "/api/v1/me/password", {"old_password": self.password, "new_password": password})
        self.password = password

    async def refusal(self, method: str, path: str, document=None) -> RestError:
        """Calls the hub with what it must refuse."""
        try:
            answer = await self.rest(method, path, document)
        except RestError as refusal:
            return refusal
        raise AssertionError(f"{method} {path} was not refused: {answer}")

    def stream(self, agent: str, message: str):
        """Asks the agent; the block has the `RunStream` of the answer."""
        return self._stream("POST", f"/api/v1/agents/{agent}/chat", {"message": message, "stream": True})

    async def run_ended(self, run_id: str) -> dict:
        """Follows a run to its end and returns it."""
        try:
            async with self._stream("GET", f"/api/v1/runs/{run_id}/events") as stream:
                while (await stream.event("run.event"))["type"] not in ("run.completed", "run.failed", "run.canceled"):
                    pass
        except TimeoutError:
            raise AssertionError(f"no end of {await self.rest('GET', f'/api/v1/runs/{run_id}')}; seen:\n{stream.raw}") from None
        return await self.rest("GET", f"/api/v1/runs/{run_id}")

    async def data_lines(self, path: str) -> list[str]:
        """The `data` lines of an event stream up to its end."""
        async with self._session() as session, session.get(self.hub.http + path) as response:
            assert response.status == 200, (path, response.status)
            return data_lines(await response.text())

    @contextlib.asynccontextmanager
    async def _stream(self, method: str, path: str, document=None):
        async with self._session() as session, session.request(method, self.hub.http + path, json=document) as response:
            body = None if response.status == 200 else await response.json(content_type=None)
            documented.judge(method, path, response.status, response.content_type, body)
            if response.status != 200:
                raise RestError(response.status, body)
            yield RunStream(response.content)

    def _session(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connector = aiohttp.TCPConnector(
            local_addr=(self.source_address, 0), family=socket.AF_INET, ssl=ssl.create_default_context(cafile=self.hub.ca)
        )
        return aiohttp.ClientSession(connector=connector, headers=headers)

    async def create_agent(self, name: str, **fields) -> str:
        """A new public agent of this user that echoes; returns its address `<handle>@agents.<domain>`."""
        handle = f"{name}-{_run}-{next(_numbers)}"
        document = {
            "name": name,
            "handle": handle,
            "system_prompt": "Repeat what you are told.",
            "visibility": "public",
            "llm_config": {"provider": "echo"},
        } | fields
        await self.rest("POST", "/api/v1/agents", document)
        return f"{handle}@{self.hub.agents_domain}"

    def xmpp(self, *, jid=None, password=None, hub=None, ca_file=None, mechanism=None, corrections=False) -> XmppClient:
        """A client of this account that is not signed in yet. With `corrections` it says that it shows them (XEP-0308)."""
        hub = hub or self.hub
        client = XmppClient(jid or self.jid, password or self.password, hub.c2s, str(ca_file or hub.ca), mechanism, corrections)
        client.account = self
        self.hub.clients.append(client)
        return client

    async def online(self, **options) -> XmppClient:
        """A client of this account that is signed in. The XMPP server learns of a new account a moment after REST did."""
        async with asyncio.timeout(10):
            while True:
                client = self.xmpp(**options)
                try:
                    await client.login()
                    return client
                except LoginRefused:
                    await asyncio.sleep(0.05)


async def sign_off(hubs: list[Hub]) -> None:
    """Ends every client of the hubs."""
    clients = [client for hub in hubs for client in hub.clients]
    for hub in hubs:
        hub.clients.clear()
    await asyncio.gather(*(client.logout() for client in clients), return_exceptions=True)
