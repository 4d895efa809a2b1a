# What there is to do with a clone. Every target works on a fresh Debian machine that has Rust.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# All members, so that features resolve as for `make test` and nothing is built twice.
SERVERS := --workspace

.PHONY: help setup build wasm native run test lint bench soak fuzz clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: a C compiler, Envoy (into .venv, unless one is on the PATH)
	@tests/setup.sh >/dev/null

build: setup ## Build the servers and the launcher
	cargo build $(SERVERS) --bins

wasm: setup ## Build the filters into target/wasm
	@wasm-filters/build.sh

native: setup ## Build the filters as a library for Envoy: target/native/libtollgate_gateway.so
	env -u CARGO_TARGET_DIR cargo build --profile native -p tollgate-native

run: wasm build ## Start everything here, until Ctrl-C; ARGS="--help" shows what can be set
	@exec $(TARGET_DIR)/debug/tollgate-run $(ARGS)

# The build takes all targets, so that the tests find the servers' binaries and `cargo test` builds nothing twice.
test: wasm native ## Run every test, against real processes; ARGS="launcher" runs those with that in their name
	@tests/setup.sh --test >/dev/null
	cargo build --workspace --all-targets
	cargo test --workspace --no-fail-fast $(ARGS)

lint: setup ## Formatting, clippy with warnings denied, and the house rules
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features xds-server/criterion -- -D warnings
	tests/tidy.sh

bench: wasm native ## Print the benchmark tables (release build; about 12 minutes)
	@tests/setup.sh --bench >/dev/null
	cargo build --release $(SERVERS) --bins --example raw_resources
	@exec $(TARGET_DIR)/release/tollgate-bench $(ARGS)

soak: wasm ## Edit at random for an hour, under load, and watch the memory; ARGS="--minutes 5"
	cargo build --release $(SERVERS) --bins
	@exec $(TARGET_DIR)/release/tollgate-soak $(ARGS)

fuzz: setup ## Fuzz the YAML loader, the session engine and the filters for SECONDS (600) each; needs no nightly Rust
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	mkdir -p xds-server/fuzz/corpus/gateway_yaml
	cp envoy-configs/gateway.yaml xds-server/src/translate/golden/*.yaml xds-server/fuzz/corpus/gateway_yaml
	cd xds-server && for target in $(or $(TARGETS),gateway_yaml session session_wire); do \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target -- -max_total_time=$(or $(SECONDS),600) -timeout=10; \
	done
	for target in $(or $(FILTER_TARGETS),headers token key_set configuration); do \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir wasm-filters/fuzz --sanitizer none $$target -- -max_total_time=$(or $(SECONDS),600) -timeout=10; \
	done

clean: ## Remove what was built, installed and written here
	rm -rf target .run .venv .venv-grpc tests/grpc-clients/node_modules
