"""The clients and examples that the repository offers, run as their readers would."""

import asyncio
import json
import os
import re
import shlex
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TYPESCRIPT = ROOT / "clients/typescript"


async def run(*command: object, where: Path = ROOT, **environment: object) -> str:
    """Runs a program to its end; what it says, if it succeeds."""
    # npm and node came with the Python that runs this.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=where, env=os.environ | {"PATH": path} | {name: str(value) for name, value in environment.items()},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{shlex.join(map(str, command))} ended with {process.returncode}\n{output.decode()}"
    return output.decode()


async def test_the_typescript_client_is_of_the_document_and_compiles(mesh):
    made = mesh.scratch / "schema.ts"
    script = json.loads((TYPESCRIPT / "package.json").read_text())["scripts"]["generate"]
    assert script.endswith(" src/schema.ts"), script
    await run("npm", "exec", "--", *shlex.split(script.removesuffix("src/schema.ts")), made, where=TYPESCRIPT)
    assert made.read_text() == (TYPESCRIPT / "src/schema.ts").read_text(), "clients/typescript: npm run generate, read the diff, commit it"
    await run("npm", "run", "check", where=TYPESCRIPT)


async def test_the_typescript_client_makes_an_agent_and_follows_its_run(mesh):
    built = mesh.scratch / "typescript"
    # Beside its packages, where node looks for them.
    (mesh.scratch / "node_modules").symlink_to(TYPESCRIPT / "node_modules")
    await run("npm", "run", "build", "--", "--outDir", built, where=TYPESCRIPT)
    (built / "package.json").write_text('{"type": "module"}')
    said = (await run("node", built / "example.js", mesh.a.http, NODE_EXTRA_CA_CERTS=mesh.a.ca)).splitlines()
    assert said[0] == "echo: Hello from TypeScript", said
    assert [line.split() for line in said[1:]] == [[str(n), "run.event"] for n in range(1, len(said))], said
    assert len(said) > 3, said


async def test_the_python_example_follows_a_run(mesh):
    said = (await run(sys.executable, ROOT / "examples/python/ask.py", mesh.a.http, mesh.a.ca)).splitlines()
    events, answer = [line.split() for line in said[:-1]], said[-1]
    assert [int(number) for number, _ in events] == list(range(1, len(said))), said
    assert (events[0][1], events[-1][1]) == ("agentos.run.created", "agentos.run.completed"), said
    assert answer == "echo: Hello from Python", said


async def test_the_example_for_ci_calls_what_is_there(_mesh):
    workflow = yaml.safe_load((ROOT / "examples/ci/github-conformance.yml").read_text())
    steps = workflow["jobs"]["judge"]["steps"]
    for action in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), f"{action} is not pinned by its commit"
    script = next(step["run"] for step in steps if "aiox conformance" in step.get("run", ""))
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    given = [word for word in words[words.index("conformance"):] if word.startswith("--")]
    assert given, script
    offered = set(re.findall(r"--[a-z][a-z-]*", await run(os.environ["AIOX_BIN"], "conformance", "--help")))
    assert offered.issuperset(given), f"aiox conformance does not know {set(given) - offered}"
    built = next(step["run"] for step in steps if "cargo build" in step.get("run", ""))
    package = shlex.split(built)[shlex.split(built).index("-p") + 1]
    assert f'name = "{package}"' in (ROOT / "node/Cargo.toml").read_text(), package
