# What people and CI call. `make run` and `make test` do all the set-up they need.

VOLUME ?= samples/volume
LISTEN ?= 127.0.0.1:8000
SCALE ?=
PART ?=
BENCH_VOLUME ?=

IMAGE ?= ska-dataproduct-index

SOAK_SECONDS ?= 60
FUZZ_SECONDS ?= 60

.PHONY: help run test rendered lint image bench soak fuzz dev-db

help: ## Lists what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: ## Builds the standalone program and serves VOLUME (the sample volume) on LISTEN
	@tests/prepare build
	cargo run --release --package dpd -- serve "$(VOLUME)" --listen "$(LISTEN)"

test: ## Installs what the tests need and runs all of them
	@tests/prepare test
	cargo build --workspace --bins
	cargo test --workspace --no-fail-fast

rendered: ## Writes anew what the chart renders, and its list of values, for you to look at
	@tests/prepare test
	rm -f tests/charts/rendered/*.yaml
	sed -i '/^<!-- values -->$$/,/^<!-- end of values -->/{/^<!--/!d}' charts/README.md
	cargo build --workspace --bins
	-cargo test --workspace --test it -- charts::rendered::values_of charts::values::the_readme >/dev/null 2>&1
	git diff --stat -- charts tests/charts

# The pure core must build by itself, and nothing that does I/O may come in by a dependency.
lint: ## Format, clippy, links of the documentation, that the core is pure, dependencies, chart and image
	@tests/prepare lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	cargo build --package shared --no-default-features
	@! cargo tree --package shared --no-default-features --edges normal --prefix none \
	  | grep -E '^(tokio|cap-std|mio|tracing-subscriber|hyper|notify) ' || \
	  { echo 'lint: shared without features must stay free of I/O'; exit 1; }
	@! cargo tree --package dpd --package api --package indexer --edges normal --prefix none | grep '^serde_yaml ' || \
	  { echo 'lint: serde_yaml is for building alone: metadata is YAML 1.1'; exit 1; }
	@tests/dependencies
	@tests/charts/lint

image: ## Builds the image of the three programs, IMAGE:VERSION, with buildah, podman or docker
	@tests/image "$(IMAGE)"

soak: ## Mixed load on the daemons for SOAK_SECONDS, while indexers are killed; what it finds ends it
	@tests/prepare test
	cargo build --release --workspace --bins
	cargo bench --package tests --bench soak -- $(SOAK_SECONDS)

fuzz: ## Feeds what reads input with anything, each target for FUZZ_SECONDS; KEEP=1 keeps what leads to new places
	@tests/prepare fuzz
	fuzz/run $(FUZZ_SECONDS)

# An hour at most with the million products that it measures by default, a few minutes with SCALE=10000. PART=daemons and
# PART=standalone are halves of products, shown and not written. BENCH_VOLUME=FOLDER keeps the volume there for next time.
bench: ## Measures SCALE products, a million by default; writes docs/benchmarks.md (PART: products, sources or downloads)
	@tests/prepare test
	cargo build --release --workspace --bins
	cargo bench --package tests --bench bench -- $(SCALE) $(PART) $(if $(BENCH_VOLUME),'volume=$(BENCH_VOLUME)')

dev-db: ## Starts a PostgreSQL to play with on port DEV_DB_PORT, 5433 by default; STOP=1 stops it
	@tests/dev-db $(if $(STOP),stop,start)
