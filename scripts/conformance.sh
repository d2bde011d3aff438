#!/usr/bin/env bash
# conformance.sh PROGRAM [FIRST_PORT]
# Judges a pair of hubs of this checkout by the specification, a third one in mode prod by what holds there alone, and the suite itself
# by hubs that are broken on purpose.
# Writes results.jsonl, report.html, junit.xml and mutants.json to target/conformance, and production-*.json* of the third hub.
# Exit status: 0 all is as it is known to be, 1 not, 2 could not be judged.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=$(realpath "${1:?the aiox program}")
out=${CARGO_TARGET_DIR:-target}/conformance
expected=conformance/expected-failures.txt

work=$(mktemp -d "${TMPDIR:-/tmp}/aiox-conformance.XXXXXX")
# The XMPP server's own user must be able to pass.
chmod 711 "$work"
base=${2:-24000}
mesh=(--dir "$work/mesh" --base-port "$base")
production=
finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$work"/mesh/hub-*/hub.log "$work"/production/hub.log >&2 || true
    fi
    if [ -n "$production" ]; then
        kill "$production" 2>/dev/null && wait "$production" || true
    fi
    "$program" down "${mesh[@]}" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT INT TERM

rm -rf "$out"
mkdir -p "$out"
"$program" up "${mesh[@]}" >/dev/null || exit 2

code=0
"$program" conformance --local "${mesh[@]}" --expected-failures "$expected" --publish --results "$out/results.jsonl" \
    --report terminal --out "$out/report.txt" --report html --out "$out/report.html" --report junit --out "$out/junit.xml" || code=$?
if [ "$code" -ne 0 ]; then
    cat "$out/report.txt" >&2
    exit "$code"
fi
# as_committed NAME: the verdicts are those of conformance/NAME
as_committed() {
    if ! diff -u "conformance/$1" "$out/$1"; then
        echo "the verdicts are not those of conformance/$1; if they should be: cp $out/$1 conformance/$1" >&2
        exit 1
    fi
}
as_committed results.jsonl

# A hub as an operator has to set one up in production: every secret of its own in a file, TLS at every door. Its certificate is one of
# the mesh's for this machine.
hub=$work/production
mkdir -m 700 "$hub"
for secret in access_secret refresh_secret encryption_key worker_key; do
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$hub/$secret")
done
certs=$work/mesh/hub-a/certs
cat >"$hub/aiox.toml" <<TOML
[hub]
domain = "hub-p.example"
mode = "prod"
data_dir = "$hub/data"
[http]
host = "127.0.0.1"
port = $((base + 480))
tls_cert = "$certs/http.pem"
tls_key = "$certs/http.key"
[grpc]
host = "127.0.0.1"
port = $((base + 451))
worker_key_file = "$hub/worker_key"
tls_cert = "$certs/grpc.pem"
tls_key = "$certs/grpc.key"
[auth]
access_secret_file = "$hub/access_secret"
refresh_secret_file = "$hub/refresh_secret"
encryption_key_file = "$hub/encryption_key"
[xmpp]
enabled = false
[federation]
enabled = false
TOML
"$program" serve --config "$hub/aiox.toml" >"$hub/hub.log" 2>&1 &
production=$!
for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$((base + 480))") 2>/dev/null; then break; fi
    kill -0 "$production" || exit 2
    sleep 0.1
done
third=(--target "https://localhost:$((base + 480))" --ca "$work/mesh/mesh-ca.pem" --production --only TEN-017)
"$program" conformance "${third[@]}" --results "$out/production-results.jsonl" --out "$out/production-report.txt" || {
    code=$?
    cat "$out/production-report.txt" >&2
    exit "$code"
}
as_committed production-results.jsonl
"$program" conformance "${third[@]}" --mutants "$out/production-mutants.json"

# What hub A has published is enough for a peer that asks for everything.
"$program" peer require hub-a.example --hub hub-b "${mesh[@]}" --profile core --profile models --profile federation --profile xmpp
"$program" conformance --local "${mesh[@]}" --expected-failures "$expected" --mutants "$out/mutants.json"
