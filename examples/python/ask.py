#!/usr/bin/env python3
"""Registers, makes an agent, runs it over /v1 and follows its events, with nothing but the standard library and the
OpenAPI document that the hub serves.

    python3 examples/python/ask.py https://hub.hub-a.example [ca.pem]
"""

import json
import secrets
import ssl
import sys
import urllib.request


class Hub:
    def __init__(self, url, ca=None):
        self.url = url.rstrip("/")
        self.context = ssl.create_default_context(cafile=ca)
        self.token = None
        self.document = self.call("GET", "/openapi/node.json")

    def open(self, method, path, body=None, headers=None):
        request = urllib.request.Request(self.url + path, method=method, headers=dict(headers or {}))
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        return urllib.request.urlopen(request, context=self.context, timeout=60)

    def call(self, method, path, body=None):
        with self.open(method, path, body) as answer:
            return json.load(answer)

    def operation(self, name, body=None, **parameters):
        """Calls an operation of the document by its operationId."""
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if isinstance(operation, dict) and operation.get("operationId") == name:
                    return self.call(method.upper(), path.format(**parameters), body)
        raise LookupError(f"the document has no operation {name}")

    def events(self, path):
        """The events of a stream, to its end."""
        with self.open("GET", path, headers={"Accept": "text/event-stream"}) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])


def main(url, ca=None):
    hub = Hub(url, ca)
    name = f"py-{secrets.token_hex(6)}"
    account = {"email": f"{name}@mail.example", "username": name, "password": secrets.token_urlsafe(16)}
    hub.token = hub.operation("register_account", account)["data"]["access_token"]
    agent = hub.operation("create_agent", {"name": "Example", "system_prompt": "Answer briefly."})["data"]
    run = hub.operation("create_run", {"input": "Hello from Python"}, agent_id=agent["id"])["run"]
    for frame in hub.events(run["events_url"]):
        print(frame["event"]["sequence"], frame["event"]["type"])
    print(hub.operation("get_v1_run", run_id=run["run_id"])["run"]["output"]["text"])
    hub.operation("delete_agent", agent=agent["id"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3])
