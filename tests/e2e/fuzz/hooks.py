"""How Schemathesis is told about a hub: whose credentials it uses, which things are there, and what every answer must be.

`test_fuzz.py` makes the world (accounts, agents, runs, …) and passes it as the JSON file that FUZZ_WORLD names. What is called is noted in
the file that FUZZ_NOTES names, one line `{"operation": …, "status": …}` for each answer.

Nothing is random here: the n-th call of an operation always gets the same treatment.
"""

import collections
import functools
import itertools
import json
import os
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import requests
import schemathesis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import documented  # noqa: E402

WORLD = json.loads(Path(os.environ["FUZZ_WORLD"]).read_text())
NOTES = Path(os.environ["FUZZ_NOTES"]).open("a", buffering=1)
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "strict-origin-when-cross-origin",
    "content-security-policy": "default-src 'none'",
    "permissions-policy": "camera=()",
}
# Sign-in is limited for each client address; each attempt here comes from a client of its own behind a trusted proxy.
_clients = (f"10.{a}.{b}.{c}" for a, b, c in itertools.product(range(256), range(256), range(1, 255)))
_newcomers = itertools.count()
_calls: dict[str, int] = collections.defaultdict(int)


def own(method: str, path: str, body=None, token: str | None = None, may_fail: bool = False):
    """A call that is not judged: it makes what the next case uses up."""
    headers = {"X-Forwarded-For": next(_clients)} | ({"Authorization": f"Bearer {token}"} if token else {})
    answer = requests.request(method, WORLD["url"] + path, json=body, headers=headers, verify=WORLD["ca"], timeout=30)
    if not may_fail:
        answer.raise_for_status()
    return answer.json().get("data")


def newcomer() -> dict:
    """A new account, for operations that end the session of their caller."""
    account = {"username": f"newcomer-{next(_newcomers)}", "password": "correct horse battery"}
    pair = own("POST", "/api/v1/auth/register", account | {"email": f"{account['username']}@mail.example"})
    return account | pair


def count(what: str, case) -> int:
    """1 for the first case of an operation, and so on. Methods that its path does not have count apart."""
    name = f"{what} {case.method} {case.operation.label}"
    _calls[name] += 1
    return _calls[name]


def known(kind: str, case) -> str:
    """A thing that is there; each operation names all of a kind in turn, beginning with the first."""
    return WORLD[kind][(count(kind, case) - 1) % len(WORLD[kind])]


@schemathesis.auth(refresh_interval=None)
class Credential:
    """By turns the administrator's token and the user's key. What destroys its own credential gets one of its own."""

    def get(self, case, _context):
        operation = case.operation.definition.raw.get("operationId")
        number = count("credential", case)
        if operation in ("end_session", "change_password"):
            return {"Authorization": f"Bearer {newcomer()['access_token']}"}
        administers = "/admin/" in case.path
        if operation in ("list_keys", "create_key", "revoke_key"):
            return {"Authorization": f"Bearer {WORLD['keyholder']}"}
        if number % (4 if administers else 2) == 0:
            return {"X-API-Key": WORLD["key"]}
        return {"Authorization": f"Bearer {WORLD['admin']}"}

    def set(self, case, data, _context):
        case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() not in ("authorization", "x-api-key")}
        case.headers.update(data)


@schemathesis.hook
def before_load_schema(_context, raw_schema):
    """The document says of an event stream either that it is text, or what the data of each event is; Schemathesis reads it as the event."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            for response in operation.get("responses", {}).values() if isinstance(operation, dict) else ():
                stream = response.get("content", {}).get("text/event-stream")
                if stream and "$ref" in stream["schema"]:
                    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": stream["schema"]}
                    stream["schema"] = {"type": "object", "required": ["data"], "properties": {"data": data}}
                elif stream:
                    stream["schema"] = {"type": "object"}


def with_peer(state: str) -> None:
    """Brings the peer into the state that an operation changes."""
    domain, token = WORLD["peers"][0], WORLD["admin"]
    path = f"/api/v1/admin/peers/{domain}"
    own("DELETE", path, token=token, may_fail=True)
    if state != "unknown":
        own("POST", "/api/v1/admin/peers", WORLD["bodies"]["propose_peer"], token)
    if state in ("active", "suspended"):
        own("POST", f"{path}/confirm", WORLD["bodies"]["confirm_peer"], token)
    if state == "suspended":
        own("POST", f"{path}/suspend", token=token)


@schemathesis.hook
def before_call(_context, case, kwargs):
    """Half of the calls name what is there, every third takes a body that works and changes one member of it; the first is right in all."""
    operation = case.operation.definition.raw.get("operationId")
    number = count("call", case)
    # Not every second one: that is the turn of the user's key.
    named, working = number % 4 in (1, 2), number % 3 == 1
    if "/auth/" in case.path:
        case.headers = dict(case.headers or {}) | {"X-Forwarded-For": next(_clients)}
    if named and case.path_parameters:
        for name in list(case.path_parameters):
            kind = WORLD["names"].get(f"{operation} {name}") or WORLD["names"].get(name)
            if kind:
                case.path_parameters[name] = known(kind, case)
    if operation in ("cancel_run", "cancel_v1_run") and named:
        # A run that has not ended yet: its model waits.
        run = own("POST", f"/api/v1/agents/{WORLD['slow']}/chat", {"message": "Hello", "detach": True}, WORLD["admin"])
        case.path_parameters = dict.fromkeys(case.path_parameters, run["id"])
    if operation in WORLD["peering"] and (named or working):
        with_peer(WORLD["peering"][operation])
    body = WORLD["bodies"].get(operation)
    if body is not None and working:
        if operation == "refresh_session":
            body["refresh_token"] = newcomer()["refresh_token"]
        body = json.loads(json.dumps(body).replace("{number}", str(number)))
        # Every ninth as it is.
        if number % 9 != 1 and isinstance(case.body, dict) and case.body:
            member = sorted(case.body)[number % len(case.body)]
            body[member] = case.body[member]
        case.body = body
    if operation == "delete_tenant" and named:
        case.query = {"confirm": case.path_parameters["tenant_id"]}


@schemathesis.check
def as_documented(_ctx, response, case):
    """What the other end-to-end tests hold every answer to: no member, media type, status or error code that the document does not name."""
    operation = case.operation.definition.raw.get("operationId")
    if case.method.upper() != case.operation.method.upper():
        return  # Methods that the path does not have are for the check `unsupported_method`.
    print(json.dumps({"operation": operation, "status": response.status_code}), file=NOTES)
    media = (response.headers.get("content-type") or [""])[0].split(";")[0]
    body = json.loads(response.content) if media.endswith("json") and response.content else None
    documented.judge(response.request.method, urlsplit(response.request.url).path, response.status_code, media, body)


@schemathesis.check
def guarded(_ctx, response, _case):
    """The security headers stand on every answer, and none says what the hub is built with."""
    headers = {name.lower(): values[0] for name, values in response.headers.items()}
    wrong = [name for name, value in SECURITY.items() if value not in headers.get(name, "")]
    assert not wrong, f"missing or wrong: {', '.join(wrong)}"
    assert "x-request-id" in headers
    told = [name for name in ("server", "x-powered-by") if name in headers]
    assert not told, f"the answer tells what the hub is built with: {told}"


CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@schemathesis.check
def joined(_ctx, response, _case):
    """An error's body names the request by the id that the header has, so that both find it in the log."""
    headers = {name.lower(): values[0] for name, values in response.headers.items()}
    if response.status_code < 400 or "json" not in headers.get("content-type", ""):
        return
    named = json.loads(response.content).get("correlation_id")
    if named is None:
        return  # OpenAI's error body has none.
    if "x-correlation-id" in headers:
        assert named == headers["x-correlation-id"], named
    else:
        number = functools.reduce(lambda number, digit: number * 32 + CROCKFORD.index(digit), named.removeprefix("corr_"), 0)
        assert uuid.UUID(int=number) == uuid.UUID(headers["x-request-id"]), f"{named} is not {headers['x-request-id']}"
