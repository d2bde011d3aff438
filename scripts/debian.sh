# Sourced by the setup scripts: installing Debian packages without starting what they bring.
#
# install_packages NAME PACKAGE...   installs what is missing; exit status 2 when this user may not.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools_dir=${AIOX_TOOLS_DIR:-$root_dir/.aiox/tools}

# The command prefix that gives the rights to install, or failure.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 126
    fi
}

may_install() {
    command -v apt-get >/dev/null && as_root true
}

missing_packages() {
    local package
    for package in "$@"; do
        # Asks dpkg and never `prosody --version`: that command starts the server.
        [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = 'install ok installed' ] || printf '%s ' "$package"
    done
}

# Debian starts a server when its package is installed, on every address. invoke-rc.d asks
# policy-rc.d first, and 101 means "do not". An existing policy is put back afterwards.
policy=/usr/sbin/policy-rc.d
forbid_service_start() {
    if [ -e "$policy" ]; then
        as_root mv "$policy" "$policy.before-aiox"
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}
restore_service_policy() {
    if [ -e "$policy.before-aiox" ]; then
        as_root mv "$policy.before-aiox" "$policy"
    else
        as_root rm -f "$policy"
    fi
}

install_packages() {
    local purpose=$1 missing
    shift
    if ! command -v dpkg >/dev/null; then
        echo "$purpose: this script knows Debian and its relatives only. Install the equivalent of: $*" >&2
        return 2
    fi
    missing=$(missing_packages "$@")
    [ -z "$missing" ] && return 0
    if ! may_install; then
        echo "$purpose needs packages that this user may not install. As root, run:" >&2
        echo "  apt-get install --no-install-recommends $missing" >&2
        return 2
    fi
    echo "$purpose: installing $missing"
    local log status=0
    log=$(mktemp)
    forbid_service_start
    trap restore_service_policy EXIT
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1 ||
        { as_root apt-get update -q >>"$log" 2>&1 &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >>"$log" 2>&1; } ||
        status=$?
    restore_service_policy
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$log" >&2
        echo "$purpose: apt-get failed; the last lines are above" >&2
    fi
    rm -f "$log"
    return "$status"
}

# python_tools VENV REQUIREMENT...   a private virtual environment with exactly these requirements.
# python_tools VENV FILE             the same with those of a requirements file, which has the hash of each.
python_tools() {
    local venv=$tools_dir/$1 wanted
    shift
    if [ -f "$1" ]; then
        wanted=$(cat "$1")
        set -- --require-hashes --requirement "$1"
    else
        wanted=$(printf '%s\n' "$@" | sort)
    fi
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "python environment" python3 python3-venv || return
    fi
    echo "installing into ${venv#"$root_dir"/}: $*"
    mkdir -p "$tools_dir"
    python3 -m venv --clear "$venv" &&
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" &&
        printf '%s\n' "$wanted" >"$venv/.installed"
}
