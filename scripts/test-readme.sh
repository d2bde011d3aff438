#!/usr/bin/env bash
# test-readme.sh PROGRAM
# Runs the README's commands as they stand there, in an empty directory with a mesh of its own. `make` blocks are left to the rest
# of the test suite: `make test` is what runs this, and `make up` is `aiox up` after a build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(realpath "$1")

work=$(mktemp -d "${TMPDIR:-/tmp}/aiox-readme.XXXXXX")
# The XMPP server's own user must be able to pass.
chmod 711 "$work"
mkdir "$work/bin"
ln -s "$program" "$work/bin/aiox"
export PATH="$work/bin:$PATH"
cd "$work"
unset AIOX_HOME AIOX_BASE_PORT AIOX_CONFIG OPENAI_API_KEY ANTHROPIC_API_KEY OLLAMA_BASE_URL
finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$status" -ne 0 ]; then
        tail -n 20 .aiox/hub-a/hub.log .aiox/hub-b/hub.log 2>/dev/null || true
    fi
    aiox down >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT INT TERM

aiox up >/dev/null

# Every sh block that is not about make, in order, in one shell. A REST answer with an error is a failure although curl ends with 0.
awk '/^```sh$/ { inside = 1; block = ""; next } /^```$/ { if (inside && block !~ /(^|\n)make /) printf "%s", block; inside = 0 }
     inside { block = block $0 "\n" }' "$root/README.md" > commands.sh
grep -c . commands.sh | { read -r lines; [ "$lines" -ge 15 ] || { echo "the README has lost its commands" >&2; exit 1; }; }
bash -euo pipefail commands.sh > output.txt 2>&1 || { cat output.txt >&2; exit 1; }
if grep -E '"error":"|"correlation_id"' output.txt; then
    echo "a command of the README was answered with an error" >&2
    exit 1
fi
for expected in 'echo: Hello from the other hub' 'echo: Good morning' 'run.completed' '"role":"assistant"' 'stopped hub hub-b'; do
    grep -qF "$expected" output.txt || { cat output.txt >&2; echo "missing in the output: $expected" >&2; exit 1; }
done
echo "the README's commands work"
