"""Hub B on Postgres beside hub A on SQLite: the same mesh, the same answers, and nothing lost or answered twice when the hub is killed."""

import os
from urllib.parse import parse_qs, urlsplit

from mesh import Mesh
from test_crash import survive_the_death_of
from test_ejabberd import talk


async def test_a_hub_on_postgres_serves_both_hubs_and_survives_its_death(_mesh):
    async with Mesh() as mesh:
        await mesh.start_over(mesh.b, postgres())
        alice = await (await mesh.a.register("alice")).online()
        await talk(alice, await (await mesh.b.register("owner")).create_agent("on-postgres"))
        bob = await (await mesh.b.register("bob")).online()
        await talk(bob, await (await mesh.a.register("owner")).create_agent("on-sqlite"))
        await mesh.end_test()

        await survive_the_death_of(mesh, mesh.b, "hub")
        await mesh.end_test()
        assert not list(mesh.directory_of(mesh.b).rglob("aiox.sqlite*")), "hub B wrote an SQLite database"


def postgres() -> str:
    """The settings of the database that `scripts/with-postgres.sh` has started."""
    url = os.environ.get("AIOX_TEST_POSTGRES_URL")
    if not url:
        raise RuntimeError("run this below scripts/with-postgres.sh, which names a database in AIOX_TEST_POSTGRES_URL")
    address = urlsplit(url)
    (directory,) = parse_qs(address.query)["host"]
    # The server trusts everybody who can reach its socket, so the password is any.
    return f"""
[database]
engine = "postgres"
host = "{directory}"
port = 5432
user = "{address.username}"
password = "unused"
name = "{address.path.lstrip("/")}"
"""
