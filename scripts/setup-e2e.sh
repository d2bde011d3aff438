#!/usr/bin/env bash
# Everything the end-to-end tests need: the XMPP servers, a browser, a private Python with its clients, and the TypeScript client's packages.
# Idempotent and quiet when nothing is to do. Options are passed on to setup-xmpp.sh.
set -euo pipefail
# shellcheck source=scripts/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

"$root_dir/scripts/setup-xmpp.sh" "$@"
install_packages "end-to-end tests" openssl chromium
python_tools e2e "$root_dir/tests/e2e/requirements.txt"

# npm and the program that runs it come with the private Python.
client=$root_dir/clients/typescript
if ! cmp -s "$client/package-lock.json" "$client/node_modules/.installed"; then
    echo "installing the packages of clients/typescript"
    (cd "$client" && PATH="$tools_dir/e2e/bin:$PATH" npm ci --no-audit --no-fund --loglevel=error)
    cp "$client/package-lock.json" "$client/node_modules/.installed"
fi
