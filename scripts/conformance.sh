#!/usr/bin/env bash
# conformance.sh PROGRAM
# Judges a pair of hubs of this checkout by the specification, and the suite itself by hubs that are broken on purpose.
# Writes results.jsonl, report.html, junit.xml and mutants.json to target/conformance.
# Exit status: 0 all is as it is known to be, 1 not, 2 could not be judged.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=$(realpath "${1:?the aiox program}")
out=${CARGO_TARGET_DIR:-target}/conformance
expected=conformance/expected-failures.txt

work=$(mktemp -d "${TMPDIR:-/tmp}/aiox-conformance.XXXXXX")
# The XMPP server's own user must be able to pass.
chmod 711 "$work"
mesh=(--dir "$work/mesh" --base-port 24000)
finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$work"/mesh/hub-*/hub.log >&2 || true
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
if ! diff -u conformance/results.jsonl "$out/results.jsonl"; then
    echo "the verdicts are not those of conformance/results.jsonl; if they should be: cp $out/results.jsonl conformance/results.jsonl" >&2
    exit 1
fi
# What hub A has published is enough for a peer that asks for everything.
"$program" peer require hub-a.example --hub hub-b "${mesh[@]}" --profile core --profile models --profile federation --profile xmpp
"$program" conformance --local "${mesh[@]}" --expected-failures "$expected" --mutants "$out/mutants.json"
