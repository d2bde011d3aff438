"""`aiox up --verify` says by its exit status whether the mesh works, and leaves nothing behind."""

import asyncio

from mesh import Mesh, kill_process

VERIFY_TIME = 120.0


async def test_verify_succeeds_and_stops_everything(_mesh):
    async with Mesh.unstarted() as mesh:
        process = await mesh.start("up", "--verify")
        async with asyncio.timeout(VERIFY_TIME):
            output, problems = await process.communicate()
        assert process.returncode == 0, (output.decode(), problems.decode(), mesh.last_log_lines())
        left = [str(file) for file in mesh.directory.rglob("*.pid") if mesh.runs(file)]
        assert not left, left


async def test_verify_fails_when_a_hub_dies(_mesh):
    async with Mesh.unstarted() as mesh:
        process = await mesh.start("up", "--verify")
        async with asyncio.timeout(VERIFY_TIME):
            said = b""
            # The hubs run when their peering begins.
            while b"peers" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
            await kill_process(mesh.directory / "hub-b/hub.pid")
            _, problems = await process.communicate()
        assert process.returncode not in (0, None), (said.decode(), problems.decode())
        left = [str(file) for file in mesh.directory.rglob("*.pid") if mesh.runs(file)]
        assert not left, left
