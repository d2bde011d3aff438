"""Schemathesis against a hub, from openapi/node.json alone: every operation, with values that fit the document and values that do not.

What it holds is in fuzz/schemathesis.toml and fuzz/hooks.py. The hub is one of its own, because it is left in pieces.
"""

import asyncio
import collections
import json
import os
import sys
import tomllib
from pathlib import Path

import documented
from hub import Account
from mesh import Mesh

FUZZ = Path(__file__).parent / "fuzz"
# What changes the peering makes everything that is forwarded fail, so that comes when the rest is done. The state that each begins with.
PEERING = {
    "propose_peer": "unknown", "confirm_peer": "proposed", "suspend_peer": "active", "resume_peer": "suspended", "remove_peer": "active",
    "require_conformance": "active", "require_no_conformance": "active",
}


async def world(hub, peer) -> dict:
    """Accounts, agents, runs and whatever else the operations name. `bodies` are known to work."""
    admin = await hub.operator()
    user, keyholder = await hub.register("user"), await hub.register("keyholder")
    spare = [(await hub.register("spare"))for _ in range(4)]
    ids = [(await account.rest("GET", "/api/v1/me"))["id"] for account in spare]
    owned = {"name": "Echo", "system_prompt": "Repeat.", "llm_config": {"provider": "echo"}}
    agents = [(await account.rest("POST", "/api/v1/agents", owned | more))["id"] for account, more in (
        (user, {"visibility": "public", "handle": "fuzzed"}), (user, {}), (admin, {"visibility": "tenant"}), (admin, {}))]
    spent = [(await account.rest("POST", "/api/v1/agents", owned))["id"] for account in (admin, user) * 6]
    deleted = [(await account.rest("POST", "/api/v1/agents", owned))["id"] for account in (admin, user) * 6]
    for number, agent in enumerate(deleted):
        await (admin, user)[number % 2].rest("DELETE", f"/api/v1/agents/{agent}")
    chats = [await user.rest("POST", f"/api/v1/agents/{agents[0]}/chat", {"message": "Hello"}),
             await admin.rest("POST", f"/api/v1/agents/{agents[2]}/chat", {"message": "Hello"})]
    far = await (await peer.register("owner")).create_agent("far")
    forwarded = await admin.rest("POST", f"/api/v1/agents/{far}/chat", {"message": "Hello"})
    # Its model does not answer before the test lets it.
    slow = (await user.rest("POST", "/api/v1/agents", owned | {"visibility": "tenant", "llm_config": {"provider": "ollama", "model": "slow"}}))["id"]
    grants = [(await user.rest("POST", f"/api/v1/agents/{agents[1]}/grants", {"kind": "jid", "grantee": f"someone-{n}@{hub.domain}"}))["id"]
              for n in range(6)]
    keys = [(await keyholder.rest("POST", "/api/v1/keys", {"name": f"spare {n}"}))["id"] for n in range(6)]
    tenants = [(await admin.rest("POST", "/v1/admin/tenants", {"name": f"Fuzzed {n}"}))["tenant"]["tenant_id"] for n in range(12)]
    tokens = [(await admin.rest("POST", f"/v1/admin/tenants/{tenants[0]}/tokens", {"name": f"t{n}"}))["token"]["token_id"] for n in range(8)]
    responses = [(await admin.rest("POST", "/openai/v1/responses", {"model": "echo", "input": "Hello"}))["id"] for _ in range(6)]
    run = {"input": {"type": "text", "text": "Hello"}}
    said = [{"role": "user", "content": "Hello"}]
    chat = {"model": "echo", "messages": said}
    return {
        "url": hub.http,
        "ca": str(hub.ca),
        "admin": admin.token,
        "key": (await user.rest("POST", "/api/v1/keys", {"name": "fuzzing"}))["secret"],
        "keyholder": keyholder.token,
        "agents": [*agents, "fuzzed", f"fuzzed@{hub.agents_domain}", far],
        "changed_agents": spent[:6],
        "doomed_agents": spent[6:],
        "deleted": deleted,
        "runs": [chat["run_id"] for chat in (*chats, forwarded)],
        "slow": slow,
        "conversations": [one["id"] for one in (await user.rest("GET", "/api/v1/conversations"))],
        "grants": grants,
        "granting": [agents[1]],
        "keys": keys,
        "users": ids,
        "tenants": tenants[:4],
        "doomed_tenants": tenants[4:],
        "token_tenant": [tenants[0]],
        "tokens": tokens[:4],
        "doomed_tokens": tokens[4:],
        "responses": responses[:2],
        "doomed_responses": responses[2:],
        "peers": [peer.domain],
        "peering": PEERING,
        "schemas": ["Agent.schema.json", "V1RunBody.schema.json"],
        # Which of them a parameter names; the operation before the parameter where it is more than that.
        "names": {
            "agent": "agents", "agent_id": "agents", "run": "runs", "run_id": "runs", "conversation": "conversations", "grant": "grants",
            "key": "keys", "user": "users", "tenant_id": "tenants", "token_id": "tokens", "response_id": "responses", "domain": "peers",
            "file": "schemas", "delete_agent agent": "doomed_agents", "restore_agent agent": "deleted", "update_agent agent": "changed_agents",
            "delete_tenant tenant_id": "doomed_tenants", "disable_tenant tenant_id": "doomed_tenants",
            "enable_tenant tenant_id": "doomed_tenants", "revoke_token token_id": "doomed_tokens",
            "openai_delete_response response_id": "doomed_responses",
            "revoke_grant agent": "granting", "list_grants agent": "granting", "create_grant agent": "granting",
            "rotate_token tenant_id": "token_tenant", "revoke_token tenant_id": "token_tenant",
        },
        "bodies": {
            "create_invite": {"role": "user"},
            "create_user": {"email": "made-{number}@mail.example", "password": "correct horse battery", "username": "made-{number}"},
            "change_user": {"status": "active"},
            "create_agent": owned | {"visibility": "private"},
            "update_agent": {"description": "Changed."},
            "send_message": {"message": "Hello"},
            "create_grant": {"kind": "jid", "grantee": f"other-{{number}}@{hub.domain}"},
            "create_session": {"username": user.username, "password": user.password},
            "register_account": {"email": "new-{number}@mail.example", "password": "correct horse battery", "username": "new-{number}"},
            "create_key": {"name": "Key {number}"},
            "change_password": {"old_password": "correct horse battery", "new_password": "another horse battery"},
            "openai_create_chat_completion": chat,
            "create_chat_completion": chat,
            "openai_create_embeddings": {"model": "echo", "input": "Hello"},
            "create_embeddings": {"model": "echo", "input": "Hello"},
            "openai_create_response": {"model": "echo", "input": "Hello"},
            "create_tenant": {"name": "Made {number}"},
            "change_tenant": {"name": "Changed {number}"},
            "replace_tenant": {"name": "Replaced {number}"},
            "issue_token": {"name": "Token {number}"},
            "create_run": run,
            "forward_run": {"forward": {"agent_id": far, "target_selector": {"stack_id": f"stk_{peer.domain}"}, "run": run}},
            "invoke_model": {"request": {"request_id": "r{number}", "operation": "chat", "model_ref": "echo", "input": {"messages": said}}},
            "check_policy": {"policy_check": {"content": "Hello"}},
            "check_policy_alias": {"policy_check": {"content": "Hello"}},
            "require_conformance": {"profiles": ["core"], "max_age_days": 30},
            "refresh_session": {"refresh_token": ""},
            "confirm_peer": {"fingerprint": (await admin.rest("GET", f"/api/v1/admin/peers/{peer.domain}"))["fingerprint"]},
            "propose_peer": {"domain": peer.domain, "url": peer.http},
        },
    }


async def schemathesis(hub, directory: Path, phase: str, *options: str) -> None:
    """Runs Schemathesis over the operations that the options choose; what it finds fails the test."""
    environment = os.environ | {"FUZZ_WORLD": str(directory / "world.json"), "FUZZ_NOTES": str(directory / "notes.jsonl"), "PYTHONPATH": str(FUZZ)}
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(FUZZ / "schemathesis.toml"), "run",
               str(documented.ROOT / "openapi/node.json"), "--url", hub.http, "--tls-verify", str(hub.ca), "--no-color", *options]
    process = await asyncio.create_subprocess_exec(*command, cwd=directory, env=environment,
                                                   stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await process.communicate()
    (directory / f"{phase}.txt").write_bytes(output)
    assert process.returncode == 0, output.decode()


async def test_a_hub_keeps_its_document_whatever_is_sent(_mesh):
    async with Mesh(settings={"AIOX__HTTP__TRUSTED_PROXIES": '["127.0.0.0/8"]'}) as mesh:
        directory = mesh.scratch
        mesh.model.hold()
        (directory / "world.json").write_text(json.dumps(await world(mesh.a, mesh.b)))
        chosen = [word for operation in PEERING for word in ("--exclude-operation-id", operation)]
        await schemathesis(mesh.a, directory, "all", *chosen)
        await schemathesis(mesh.a, directory, "last", *(word.replace("exclude", "include") for word in chosen))
        notes = [json.loads(line) for line in (directory / "notes.jsonl").read_text().splitlines()]
        assert mesh.runs(mesh.a.processes["hub"])
    answered = collections.defaultdict(collections.Counter)
    for note in notes:
        answered[note["operation"]][note["status"]] += 1
    known = {operation["operationId"] for _, _, operation in documented.operations()}
    assert answered.keys() == known, f"not called: {sorted(known - answered.keys())}"
    excepted = tomllib.loads((FUZZ / "unreached.toml").read_text())
    unreached = {name for name, statuses in answered.items() if min(statuses) >= 400}
    told = {name: dict(answered[name]) for name in sorted(unreached ^ excepted.keys())}
    assert unreached == excepted.keys(), f"never called with success, or in unreached.toml without need: {told}"
    print(f"       {len(notes)} answers of {len(answered)} operations")


# Minutes on a machine that does something else beside it.
test_a_hub_keeps_its_document_whatever_is_sent.patience = 480.0
