# What a person types. Everything else is in scripts/ and behind `aiox --help`.

# A release build takes longer once and runs faster ever after. `make up PROFILE=dev` for a quick look.
PROFILE ?= release
TARGET  ?= $(or $(CARGO_TARGET_DIR),target)
OUTPUT   = $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
AIOX     = $(OUTPUT)/aiox

.PHONY: help up verify down build test conformance lint fmt bench spec prove-additive

help:            ## Show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 16

build: tools     ## Build the aiox program
	cargo build --locked --profile $(PROFILE) -p aiox-node

up: build        ## Two federated hubs on this machine, and a conversation across them
	@scripts/setup-xmpp.sh || true
	$(AIOX) up

verify: build    ## The same without a terminal: asserts everything, stops everything
	@scripts/setup-xmpp.sh
	$(AIOX) up --verify --dir $(TARGET)/verify --base-port 21000

down:            ## Stop what `make up` started; data stays
	$(AIOX) down

test: tools      ## Everything: format, lints, unit, contract, both databases, end to end
	scripts/test.sh

conformance: build ## Judge a pair of hubs by the specification, and the suite itself
	@scripts/setup-xmpp.sh
	scripts/conformance.sh $(AIOX)

lint: tools      ## Format and lints alone
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

fmt:             ## Format the code
	cargo fmt --all

spec: tools     ## Write openapi/, schemas/, spec/requirements.json and aiox.example.toml
	cargo run --quiet --locked -p xtask -- spec

prove-additive: tools ## Edit a copy of the sources in ways that break an integrator, and see the tests refuse it
	cargo run --quiet --locked -p xtask -- prove-additive

bench: PROFILE = release
bench: build     ## Load harness against a fresh hub; writes target/bench/main-job.jsonl
	cargo build --locked --release -p aiox-benches
	mkdir -p target/bench
	$(OUTPUT)/aiox-benches main-job --aiox $(AIOX) --out target/bench/main-job.jsonl

.PHONY: tools
tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust with rustup (https://rustup.rs), then try again" >&2; exit 1; }
