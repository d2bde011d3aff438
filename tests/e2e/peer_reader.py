"""Reads the log of a run at the hub that executes it, with the identity of the hub that asked for it (federation sections 4 and 12)."""

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
import subprocess
import time
from pathlib import Path

import aiohttp

from hub import Hub
from run_stream import data_lines


class PeerReader:
    """Speaks to the peer listener of `executing` as `asking` does. The keys are read from the files of `asking`."""

    def __init__(self, directory: Path, asking: Hub, executing: Hub):
        self._certs = directory / asking.domain.removesuffix(".example") / "certs"
        self._roots = directory / executing.domain.removesuffix(".example") / "certs" / "domain-ca.pem"
        self._asking = asking
        self._executing = executing

    async def events(self, run: str) -> list[dict]:
        """Every event of a run that has ended."""
        async with aiohttp.ClientSession() as web:
            mine, theirs = [await _trusted_node(web, hub) for hub in (self._asking, self._executing)]
        # Peers speak HTTP/2 alone.
        process = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--show-error", "--fail-with-body", "--http2", "--max-time", "30", "--cacert", self._roots,
            "--cert", self._certs / "federation.pem", "--key", self._certs / "federation.key", "--oauth2-bearer",
            self._token(mine["id"], theirs["id"]), f"{theirs['endpoint']}/fed/v1/runs/{run}/events?after=0",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        output, problems = await process.communicate()
        assert process.returncode == 0, (process.returncode, output, problems)
        return [json.loads(line) for line in data_lines(output.decode())]

    def _token(self, issuer: str, audience: str) -> str:
        now = int(time.time())
        leaf = ssl.PEM_cert_to_DER_cert(_first_certificate(self._certs / "federation.pem"))
        claims = {
            "iss": issuer, "sub": issuer, "aud": audience, "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(24),
            "cnf": {"x5t#S256": _base64url(hashlib.sha256(leaf).digest())}, "scope": "stream",
        }
        key = self._certs / "token.key"
        header = {"alg": "ES256", "typ": "aiox-fed+jwt", "kid": _thumbprint(key)}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = _openssl("dgst", "-sha256", "-sign", str(key), given=signed.encode())
        return f"{signed}.{_base64url(_raw(signature))}"


async def _trusted_node(web: aiohttp.ClientSession, hub: Hub) -> dict:
    context = ssl.create_default_context(cafile=hub.ca)
    async with web.get(f"{hub.http}/.well-known/aiox-federation.json", ssl=context) as response:
        return (await response.json(content_type=None))["nodes"][0]


def _openssl(*command: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *command], input=given, check=True, capture_output=True).stdout


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _first_certificate(file: Path) -> str:
    return file.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"


def _thumbprint(key: Path) -> str:
    """RFC 7638. The last 64 bytes of the public key are its coordinates."""
    point = _openssl("pkey", "-in", str(key), "-pubout", "-outform", "DER")[-64:]
    members = {"crv": "P-256", "kty": "EC", "x": _base64url(point[:32]), "y": _base64url(point[32:])}
    return _base64url(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def _raw(der: bytes) -> bytes:
    """A DER signature as r and s of 32 bytes each (RFC 7518 section 3.4)."""
    numbers, rest = [], der[2:]
    for _ in range(2):
        length = rest[1]
        numbers.append(int.from_bytes(rest[2 : 2 + length], "big").to_bytes(32, "big"))
        rest = rest[2 + length :]
    return b"".join(numbers)
