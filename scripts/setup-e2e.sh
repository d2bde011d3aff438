#!/usr/bin/env bash
# Everything the end-to-end tests need: the XMPP server and a private Python with an XMPP client.
# Idempotent and quiet when nothing is to do. Options are passed on to setup-xmpp.sh.
set -euo pipefail
# shellcheck source=scripts/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

"$root_dir/scripts/setup-xmpp.sh" "$@"
install_packages "end-to-end tests" openssl
python_tools e2e 'slixmpp==1.17.0' 'aiohttp==3.14.5' 'jsonschema==4.26.0' 'openai==3.54.0'
