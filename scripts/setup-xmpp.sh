#!/usr/bin/env bash
# Installs the XMPP server that the hubs run beside them: Prosody, and ejabberd with --ejabberd.
# Idempotent and quiet when nothing is to do. Never starts a system service.
# Exit status: 0 ready, 2 not installed because this user may not (the text says what to run).
set -euo pipefail
# shellcheck source=scripts/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

with_ejabberd=
case "${1:-}" in
    '') ;;
    --ejabberd) with_ejabberd=1 ;;
    *)
        echo "usage: $0 [--ejabberd]" >&2
        exit 64
        ;;
esac

# lua-unbound: without it Prosody cannot ask the hub's DNS responder on a port of its own.
# lua-dbi-sqlite3: the message archive.
install_packages "XMPP server" prosody prosody-modules lua-unbound lua-dbi-sqlite3

if [ -n "$with_ejabberd" ]; then
    install_packages "XMPP server (ejabberd)" ejabberd erlang-p1-sqlite3 erlang-jose sqlite3
fi
