"""A peer that speaks s2s by hand, to try what a stock server never would."""

import asyncio
import base64
import ssl
from pathlib import Path

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
DIALBACK = "jabber:server:dialback"


class RogueHub:
    """One connection to the s2s port of a hub, claiming to be `claimed`."""

    def __init__(self, claimed: str, target: str, address: tuple[str, int]):
        self.claimed = claimed
        self.target = target
        self._address = address
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "RogueHub":
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_) -> None:
        self._writer.close()

    async def open_stream(self) -> str:
        """Sends a stream header and returns what comes up to the features, or up to the end."""
        await self.send(
            f"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'"
            f" xmlns:db='{DIALBACK}' from='{self.claimed}' to='{self.target}' version='1.0'>"
        )
        return await self.read_until("</stream:features>", "<stream:features/>")

    async def start_tls(self, certificate: tuple[Path, Path] | None) -> None:
        """Upgrades to TLS, with or without a client certificate. The hub's own certificate is not looked at."""
        await self.send(f"<starttls xmlns='{TLS}'/>")
        answer = await self.read_until("<proceed", "<failure")
        assert "<proceed" in answer, answer
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(*certificate)
        await self._writer.start_tls(context, server_hostname=self.target)

    async def authenticate(self) -> bool:
        """SASL EXTERNAL (XEP-0178): the certificate speaks for the claimed domain."""
        identity = base64.b64encode(self.claimed.encode()).decode()
        await self.send(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>{identity}</auth>")
        return "<success" in await self.read_until("<success", "<failure")

    async def dial_back(self) -> str:
        """Asks to be believed because of a key (XEP-0220)."""
        await self.send(f"<db:result xmlns:db='{DIALBACK}' from='{self.claimed}' to='{self.target}'>0123456789abcdef</db:result>")
        return await self.read_until("db:result", "</stream:stream>")

    async def send_message(self, sender: str, recipient: str, text: str) -> None:
        """Sends a chat message, whether or not the hub wants it."""
        await self.send(f"<message from='{sender}' to='{recipient}' type='chat' id='rogue'><body>{text}</body></message>")

    async def send(self, text: str) -> None:
        """Sends text as it is; the hub may have closed the stream already."""
        try:
            self._writer.write(text.encode())
            await self._writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass

    async def read_until(self, *ends: str, within: float = 10) -> str:
        """Everything that comes until one of `ends` is in it, the connection ends, or the time is over."""
        received = ""
        try:
            async with asyncio.timeout(within):
                while not any(end in received for end in ends):
                    part = await self._reader.read(65536)
                    if not part:
                        break
                    received += part.decode(errors="replace")
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
        return received
