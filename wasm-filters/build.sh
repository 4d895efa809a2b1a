#!/usr/bin/env bash
# Builds the filters for wasm32-unknown-unknown into target/wasm/*.wasm, finding a toolchain that can:
# the active one, else Debian's (installed where we are root), else rustup's target.
set -euo pipefail
cd "$(dirname "$0")/.."

# The output is looked for under target/, wherever native builds go.
unset CARGO_TARGET_DIR

filters=(auth rate-limit gateway)
target=wasm32-unknown-unknown
packages=()
for filter in "${filters[@]}"; do packages+=(-p "tollgate-$filter-filter"); done
packages+=(-p tollgate-wasm-host-guest -p tollgate-wasm-host-example)
say() { printf '\033[2m[wasm]\033[0m %s\n' "$*" >&2; }

has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; }

if ! has_target && ! dpkg -s rustc-web cargo-web rust-web-src >/dev/null 2>&1; then
    if [ -f /etc/debian_version ] && [ "$(id -u)" = 0 ]; then
        say "installing Debian's Rust for $target (rustc-web, cargo-web, rust-web-src, lld-22)"
        apt-get update -qq >&2 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustc-web cargo-web rust-web-src lld-22 >&2 || true
    fi
fi

if has_target; then
    say "building ${filters[*]} with $(rustc --version)"
    cargo build --profile wasm --target "$target" "${packages[@]}"
    out=target/$target/wasm
elif dpkg -s rustc-web cargo-web rust-web-src >/dev/null 2>&1; then
    say "building ${filters[*]} with Debian's $(/usr/bin/rustc --version) and its own std"
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo build --profile wasm --target "$target" \
        -Zbuild-std=std,panic_abort --target-dir target/debian-wasm "${packages[@]}"
    out=target/debian-wasm/$target/wasm
elif command -v rustup >/dev/null; then
    say "adding $target to the active toolchain"
    rustup target add "$target"
    cargo build --profile wasm --target "$target" "${packages[@]}"
    out=target/$target/wasm
else
    say "no way to build for $target: install it with 'rustup target add $target'"
    exit 1
fi

mkdir -p target/wasm
for filter in "${filters[@]}" host-guest host-example; do
    file=${filter//-/_}
    built=tollgate_${file}_filter
    # What the test host is tested with.
    case $filter in host-*) built=tollgate_wasm_$file ;; esac
    # Replaced in one step: an Envoy may be reading the old one.
    cp "$out/$built.wasm" "target/wasm/.$file.new"
    mv "target/wasm/.$file.new" "target/wasm/$file.wasm"
done
ls -l target/wasm/*.wasm >&2
