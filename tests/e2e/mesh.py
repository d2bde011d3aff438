"""Two federated hubs, started by `aiox up` in a directory of their own."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import ssl
import tempfile
from pathlib import Path

from foreign_pki import make_certificate
from hub import Account, Hub, sign_off
from slow_model import SlowModel
from token_model import TokenModel
from xmpp_client import XmppClient

UP_TIME = 120.0
DOWN_TIME = 60.0
# `aiox up` uses this many ports from its base port on; all lie below those that the kernel gives away.
PORTS = 300
BASE_PORTS = range(20_000, 32_000, PORTS)


class Mesh:
    """The hubs `a` and `b`, and what tests do to them."""

    def __init__(self, *options: str, settings: dict[str, str] | None = None) -> None:
        """`options` are those of `aiox up`; `settings` are variables of the environment."""
        self._options = options
        self._settings = settings or {}
        self.model = SlowModel()
        self.tokens = TokenModel()
        self._stack = contextlib.AsyncExitStack()
        self.a: Hub
        self.b: Hub
        self.scratch: Path
        self.directory: Path
        self._base_port = _free_base_port()

    @classmethod
    @contextlib.asynccontextmanager
    async def unstarted(cls):
        """A directory, ports and model servers for commands; stopped at the end whatever they left."""
        mesh = cls()
        try:
            await mesh._prepare()
            yield mesh
        finally:
            await mesh._stack.aclose()

    async def __aenter__(self) -> "Mesh":
        try:
            await self._prepare()
            await self.up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _prepare(self) -> None:
        self.scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aiox-e2e-")))
        # The XMPP server's own user must be able to pass.
        self.scratch.chmod(0o711)
        self.directory = self.scratch / "mesh"
        await self._stack.enter_async_context(self.model)
        await self._stack.enter_async_context(self.tokens)
        self._stack.push_async_callback(self._down)

    async def __aexit__(self, problem, *_) -> None:
        if problem:
            print(self.last_log_lines())
        await self._stack.aclose()

    async def up(self) -> None:
        """Starts what does not run."""
        output = await self.aiox("up", "--json", *self._options, patience=UP_TIME)
        if not hasattr(self, "a"):
            self.a, self.b = map(_hub, json.loads(output)["hubs"])

    def directory_of(self, hub: Hub) -> Path:
        """Where the hub's settings and data are."""
        return hub.credentials.parent

    async def start_over(self, hub: Hub, settings: str) -> None:
        """Stops everything, adds settings to a hub's file, and starts again without what any hub has stored."""
        await self._down()
        with (self.directory_of(hub) / "aiox.toml").open("a") as file:
            file.write(settings)
        for database in list(self.directory.glob("hub-*/data/aiox.sqlite*")):
            database.unlink()
        await self.up()

    async def _down(self) -> None:
        await self.aiox("down", patience=DOWN_TIME)

    async def start(self, command: str, *options: str) -> asyncio.subprocess.Process:
        """Starts a command of the program on this mesh, with pipes for what it says."""
        program = os.environ.get("AIOX_BIN")
        if not program:
            raise RuntimeError("AIOX_BIN must name the aiox program")
        # Providers beside the built-in one. OLLAMA_BASE_URL would also make it the default one.
        environment = os.environ | {"AIOX__WORKER__PROVIDERS__OLLAMA__BASE_URL": self.model.url} | self.tokens.environment("tokens") | self._settings
        return await asyncio.create_subprocess_exec(
            program, command, "--dir", str(self.directory), "--base-port", str(self._base_port), *options,
            cwd=self.scratch, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )

    async def aiox(self, command: str, *options: str, patience: float) -> str:
        """Runs a command to its end; returns its standard output."""
        process = await self.start(command, *options)
        async with asyncio.timeout(patience):
            output, problems = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(
                f"aiox {command} ended with {process.returncode}\n{output.decode()}\n{problems.decode()}\n{self.last_log_lines()}"
            )
        return output.decode()

    def certificate_of_the_mesh(self, domain: str) -> tuple[Path, Path]:
        """A certificate that the authority of the mesh vouches for, of a domain that is no hub's."""
        authority = self.directory / "mesh-ca.pem", self.directory / "mesh-ca.key"
        return make_certificate(self.scratch / domain, [domain, f"agents.{domain}"], authority)

    def foreign_authority(self) -> Path:
        """The certificate of an authority that signed nothing here."""
        directory = self.scratch / "foreign"
        make_certificate(directory, ["nobody.example"])
        return directory / "ca.crt"

    def client_like(self, client: XmppClient) -> XmppClient:
        """A further client of the same account."""
        return client.account.xmpp()

    async def login_patiently(self, account: Account) -> XmppClient:
        """Signs in as soon as the server lets one."""
        async with asyncio.timeout(UP_TIME):
            while True:
                try:
                    return await account.online()
                except (ConnectionError, TimeoutError, ssl.SSLError, OSError):
                    await self.breathe()

    async def breathe(self) -> None:
        """What a client does before it tries again. No test relies on the length."""
        await asyncio.sleep(0.2)

    async def kill(self, hub: Hub, part: str) -> None:
        """kill -9, and waits until the process is gone."""
        await kill_process(hub.processes[part])

    def runs(self, pid_file: Path) -> bool:
        """Whether the process of a pid file runs."""
        return _runs(int(pid_file.read_text().split()[0]))

    @contextlib.asynccontextmanager
    async def stopped(self, hub: Hub, part: str):
        """The part is dead inside of the block."""
        await self.kill(hub, part)
        try:
            yield
        finally:
            await self.up()

    @contextlib.asynccontextmanager
    async def impostor(self, hub: Hub, certificate: tuple[Path, Path], seen: bytearray):
        """A server on the hub's s2s address that offers TLS with this certificate and keeps what it reads."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await _offer(reader, writer, seen, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>")
                await _keep_until(reader, seen, b"starttls")
                writer.write(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
                await writer.start_tls(context)
                await _offer(reader, writer, seen,
                             "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>")
                while part := await reader.read(65536):
                    seen.extend(part)
            except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async with await self._listen(serve, hub.s2s):
            yield

    async def _listen(self, serve, address: tuple[str, int]) -> asyncio.Server:
        """A child of the killed server may hold its listeners for a moment longer."""
        async with asyncio.timeout(10):
            while True:
                try:
                    return await asyncio.start_server(serve, *address)
                except OSError:
                    await self.breathe()

    async def end_test(self) -> None:
        """Signs everybody off and lets the model answer again."""
        self.model.release()
        await sign_off([self.a, self.b])

    def last_log_lines(self) -> str:
        """The ends of all logs."""
        parts = []
        for path in sorted(self.directory.rglob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"--- {path.relative_to(self.directory)}", *lines]))
        return "\n".join(parts)


def _hub(document: dict) -> Hub:
    """A hub as `aiox up --json` tells of it."""
    return Hub(
        domain=document["domain"],
        http=document["http"],
        c2s=tuple(document["c2s"]),
        s2s=tuple(document["s2s"]),
        ca=Path(document["ca"]),
        xmpp_certificate=(Path(document["certificate"]), Path(document["key"])),
        processes={name: Path(file) for name, file in document["processes"].items()},
        credentials=Path(document["credentials"]),
    )


def _free_base_port() -> int:
    # In any order, because other tests may look for ports at the same moment.
    for base in random.sample(BASE_PORTS, len(BASE_PORTS)):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + PORTS):
                    probe = stack.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free range of ports")


async def kill_process(pid_file: Path) -> None:
    """kill -9, and waits until the process is gone."""
    pid = int(pid_file.read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while _runs(pid):
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def _keep_until(reader: asyncio.StreamReader, seen: bytearray, end: bytes) -> None:
    start = len(seen)
    while end not in seen[start:]:
        part = await reader.read(65536)
        if not part:
            raise ConnectionResetError
        seen.extend(part)


async def _offer(reader, writer, seen: bytearray, feature: str) -> None:
    await _keep_until(reader, seen, b"<stream:stream")
    writer.write(
        b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>"
        b"<stream:features>" + feature.encode() + b"</stream:features>"
    )
    await writer.drain()
