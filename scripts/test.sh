#!/usr/bin/env bash
# The whole test suite. Sets up what it needs itself, and stops it again.
# The last line is `N passed, N failed`: end-to-end cases. Cargo prints its own lines before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step "what the tests need"
scripts/setup-postgres.sh
scripts/setup-e2e.sh --ejabberd

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings

step "unit, contract and door tests, on SQLite and Postgres"
rm -rf "${CARGO_TARGET_DIR:-target}/spec/exercised"
AIOX_TEST_REQUIRE=postgres scripts/with-postgres.sh cargo test --locked --workspace

step "the program"
cargo build --locked -p aiox-node -p aiox-benches
bin="${CARGO_TARGET_DIR:-target}/debug"

step "the load harness against itself"
"$bin/aiox-benches" self-test

step "the README's commands"
scripts/test-readme.sh "$bin/aiox"

step "conformance: a pair of hubs, and the suite itself"
scripts/conformance.sh "$bin/aiox"

step "end to end: two hubs, two XMPP servers, real clients"
# The last line of all is the one of these; what they and the tests before exercised is compared with the documents above it.
result=0
cases=$(mktemp)
trap 'rm -f "$cases"' EXIT
AIOX_BIN="$(realpath "$bin/aiox")" scripts/with-postgres.sh .aiox/tools/e2e/bin/python tests/e2e/run.py | tee "$cases" || result=$?

step "every operation of the documents was exercised"
cargo run --quiet --locked -p xtask -- spec exercised || result=1
tail -n 1 "$cases"
exit "$result"
