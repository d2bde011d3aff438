#!/usr/bin/env bash
# Judges a pair of hubs of this checkout, and the suite itself.
# Usage: scripts/conformance.sh path/to/aiox
# Writes target/conformance/{results.jsonl,report.html,junit.xml,mutants.json}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
aiox=$(realpath "${1:?the aiox program}")
out=${CARGO_TARGET_DIR:-target}/conformance
mesh=(--dir "$out/mesh" --base-port 23000)

rm -rf "$out"
mkdir -p "$out"
trap '"$aiox" down "${mesh[@]}" >"$out/down.log" 2>&1 || cat "$out/down.log" >&2' EXIT
"$aiox" up "${mesh[@]}" --json >"$out/mesh.json"

code=0
"$aiox" conformance --local "${mesh[@]}" --expected-failures conformance/expected-failures.txt \
    --results "$out/results.jsonl" --report junit --out "$out/junit.xml" || code=$?
if [ "$code" -ne 0 ]; then
    "$aiox" conformance --local "${mesh[@]}" --expected-failures conformance/expected-failures.txt || true
    exit "$code"
fi
if ! diff -u conformance/results.jsonl "$out/results.jsonl"; then
    echo "the verdicts differ from conformance/results.jsonl; if that is meant: cp $out/results.jsonl conformance/results.jsonl" >&2
    exit 1
fi
"$aiox" conformance --local "${mesh[@]}" --mutants "$out/mutants.json"
