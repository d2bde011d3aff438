"""A stock XMPP client that remembers what it receives until a test asks for it."""

import asyncio
import ssl
from collections.abc import Callable

import slixmpp
import slixmpp.exceptions
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath
from slixmpp.xmlstream.stanzabase import StanzaBase

CHAT_STATES = "http://jabber.org/protocol/chatstates"
# Stanzas a test never asks for are kept up to this number; the ones after that are dropped.
INBOX_LIMIT = 10_000


class LoginRefused(Exception):
    """The server did not let the user in."""


class XmppClient:
    """Connects to one fixed address and trusts the authorities in `ca_file` only."""

    def __init__(self, jid: str, password: str, address: tuple[str, int], ca_file: str, mechanism: str | None = None,
                 corrections: bool = False):
        self.jid = jid
        # Whose client it is; set by who made it.
        self.account = None
        self._address = address
        self._inbox: list[StanzaBase] = []
        self._changed = asyncio.Condition()
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.stream = stream = slixmpp.ClientXMPP(
            jid, password, sasl_mech=mechanism, ssl_context=ssl.create_default_context(cafile=ca_file)
        )
        stream.enable_direct_tls = False
        # The tests answer subscriptions themselves.
        stream.auto_authorize = None
        stream.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0085", "xep_0184", "xep_0199", "xep_0203", *(["xep_0308"] if corrections else [])):
            stream.register_plugin(plugin)
        stream.plugin["xep_0184"].auto_request = False
        for kind in ("message", "presence"):
            stream.register_handler(Callback(f"every {kind}", StanzaPath(kind), self._keep))
        stream.add_event_handler("session_start", lambda _: self._finish(None))
        stream.add_event_handler("failed_all_auth", lambda _: self._finish(LoginRefused(jid)))
        stream.add_event_handler("connection_failed", lambda reason: self._finish(ConnectionError(str(reason))))
        stream.add_event_handler("ssl_invalid_chain", self._finish)
        stream.add_event_handler("disconnected", self._disconnected)

    async def login(self, within: float = 20) -> None:
        """Connects, signs in and sends the first presence."""
        self.stream.connect(*self._address)
        try:
            async with asyncio.timeout(within):
                await self._outcome
        except BaseException:
            self.stream.abort()
            raise
        # Without this slixmpp says that it is a bot, and the hub lets programs send much less than people.
        # Identities belong to the full address, which is known only now.
        await self.stream.plugin["xep_0030"].add_identity(category="client", itype="pc", name="test client")
        await self.stream.get_roster()
        self.stream.send_presence()

    async def logout(self) -> None:
        """Ends the stream."""
        if self.stream.is_connected():
            await self.stream.disconnect()

    @property
    def mechanism(self) -> str:
        """The SASL mechanism that was used."""
        return self.stream["feature_mechanisms"].mech.name

    async def ended(self, within: float = 20) -> None:
        """Waits until the server has ended this client's stream."""
        async with asyncio.timeout(within):
            await self.lost.wait()

    async def expect(self, what: str, matches: Callable[[StanzaBase], object], within: float = 20) -> StanzaBase:
        """Takes the first stanza, received already or still to come, for which `matches` is true."""
        found: list[StanzaBase] = []

        def look() -> bool:
            for stanza in self._inbox:
                if matches(stanza):
                    self._inbox.remove(stanza)
                    found.append(stanza)
                    return True
            return False

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(look)
        except TimeoutError:
            received = "\n".join(str(stanza) for stanza in self._inbox[-20:]) or "nothing"
            raise AssertionError(f"{self.jid} did not receive {what} in {within} s; it received\n{received}") from None
        return found[0]

    async def answer_from(self, contact: str, within: float = 20) -> StanzaBase:
        """The next chat message with a text from `contact`."""
        return await self.expect(
            f"an answer of {contact}",
            lambda s: s.name == "message" and s["type"] != "error" and s["from"].bare == contact and s["body"],
            within,
        )

    async def error_from(self, contact: str, within: float = 20) -> StanzaBase:
        """The next message of type error from `contact`."""
        return await self.expect(
            f"an error from {contact}",
            lambda s: s.name == "message" and s["type"] == "error" and s["from"].bare == contact,
            within,
        )

    async def condition_of(self, request: slixmpp.Iq, within: float = 20) -> str:
        """Sends a request that should be refused; returns the condition of the refusal, or `accepted`."""
        try:
            await request.send(timeout=within)
        except slixmpp.exceptions.IqError as refusal:
            return refusal.iq["error"]["condition"]
        return "accepted"

    def received(self, matches: Callable[[StanzaBase], object]) -> list[StanzaBase]:
        """Everything received so far and not taken yet for which `matches` is true."""
        return [stanza for stanza in self._inbox if matches(stanza)]

    def forget(self) -> None:
        """Drops everything received so far."""
        self._inbox.clear()

    def say(self, contact: str, text: str, *, id: str | None = None, thread: str | None = None, receipt: bool = False) -> str:
        """Sends a chat message and returns its id."""
        message = self.stream.make_message(mto=contact, mbody=text, mtype="chat")
        message["id"] = id or self.stream.new_id()
        if thread:
            message["thread"] = thread
        if receipt:
            message["request_receipt"] = True
        message.send()
        return message["id"]

    def _keep(self, stanza: StanzaBase) -> None:
        if len(self._inbox) < INBOX_LIMIT:
            self._inbox.append(stanza)
        asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _disconnected(self, reason) -> None:
        self.lost.set()
        self._finish(ConnectionError(f"disconnected: {reason}"))

    def _finish(self, problem: Exception | None) -> None:
        if self._outcome.done():
            return
        if problem is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(problem)
