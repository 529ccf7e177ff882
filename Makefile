# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find rust python -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.j2' -o -name '*.css' -o -name '*.js' -o -name '*.yaml' -o -name 'Cargo.toml') \
	Cargo.toml Cargo.lock pyproject.toml
# The binding crate's tests link libpython; where this Python has no shared library they are left out, aloud.
LIBPYTHON = $(shell $(BIN)/python -c "import sysconfig as s, pathlib as p; d = s.get_config_var('LIBDIR') or ''; \
	print(d if s.get_config_var('Py_ENABLE_SHARED') and list(p.Path(d).glob('libpython3*.so')) else '')")

.PHONY: help demo picture notebooks site tutorial test test-python test-rust interop asan fuzz fuzz-python mutants mutants-python soak audit coverage \
	results lint format dist crates clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[plot]'
	@touch $@

$(VENV)/.test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.lint: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group lint
	@touch $@

$(VENV)/.site: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group site
	@touch $@

site: $(VENV)/.site ## Build the pages of docs/ as a site into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tutorial: $(VENV)/.test ## Run docs/tutorial.md in full and write what its blocks print and draw into it
	$(BIN)/python docs/make_tutorial.py

demo: $(VENV)/.demo ## Build, install into .venv and run `subgpt quickstart`
	$(BIN)/subgpt quickstart

picture: $(VENV)/.demo ## Draw the README's picture from what `make demo` left
	$(BIN)/python docs/draw_life.py subgpt-quickstart docs/images/life.png

notebooks: $(VENV)/.test ## Run the notebooks of examples/notebooks and store their outputs
	$(BIN)/jupyter execute --inplace --NotebookClient.record_timing=False examples/notebooks/*.ipynb

test: test-python test-rust ## Build, install and run every test

test-python: $(VENV)/.test
	$(BIN)/python -m pytest -n auto

test-rust: $(BIN)/python
	cargo test --quiet -p subgpt-core -p subgpt-checks -p subgpt-testkit
	@if [ -n "$(LIBPYTHON)" ]; then \
		PYO3_PYTHON=$(abspath $(BIN)/python) LD_LIBRARY_PATH="$(LIBPYTHON):$$LD_LIBRARY_PATH" \
			cargo test --quiet -p subgpt-python; \
	else echo "skipped: cargo test -p subgpt-python needs a Python with a shared libpython"; fi

# Peers have an environment of their own: a few GB, and ten minutes to compile llama.cpp. INTEROP_PIP may name an index
# with a smaller PyTorch: make interop INTEROP_PIP='--extra-index-url https://download.pytorch.org/whl/cpu'
INTEROP := .venv-interop
INTEROP_PIP ?=

$(INTEROP)/.interop: $(SOURCES)
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --upgrade pip
	$(INTEROP)/bin/python -m pip install --quiet $(INTEROP_PIP) '.[test]' --group interop
	@touch $@

interop: $(INTEROP)/.interop ## Install peers (PyTorch, transformers, peft, lm-eval, llama.cpp ...), and let them check us
	$(INTEROP)/bin/python -m pytest tests/interop

# The sanitizer's runtime comes with the stable compiler, its flag only with this variable. Tests ask for more memory
# than there is.
asan: ## Run the Rust tests on every instruction set under AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=allocator_may_return_null=1 cargo test --quiet --target x86_64-unknown-linux-gnu \
		--target-dir target/asan -p subgpt-core --lib

# Coverage guides what the property tests of rust/checks draw at random. What is found new stays in rust/fuzz/corpus, a
# crash in rust/fuzz/artifacts; mended, it goes to the seeds. What is small is slower on many threads.
FUZZ_SECONDS ?= 30
FUZZ_TARGETS ?= $(sort $(basename $(notdir $(wildcard rust/fuzz/targets/*.rs))))

fuzz: ## Fuzz every reader and encoder for FUZZ_SECONDS (30) each; needs nightly Rust and cargo-fuzz
	@rustup run nightly cargo --version >/dev/null 2>&1 || \
		{ echo "fuzzing needs a nightly compiler; get it with: rustup toolchain install nightly"; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || \
		{ echo "fuzzing needs cargo-fuzz; get it with: cargo install cargo-fuzz"; exit 1; }
	@cd rust/fuzz && for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; mkdir -p corpus/$$target; \
		SUBGPT_NUM_THREADS=1 cargo +nightly fuzz run --fuzz-dir . --target-dir ../../target/fuzz $$target corpus/$$target seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=60 -print_final_stats=1 || exit 1; \
	done

mutants: $(VENV)/.test ## Change sampler, optimizers and tokenizers in small ways and see which tests notice (hours); needs cargo-mutants
	@cargo mutants --version >/dev/null 2>&1 || \
		{ echo "this needs cargo-mutants; get it with: cargo install cargo-mutants"; exit 1; }
	$(BIN)/python rust/mutants/mutants.py

mutants-python: $(VENV)/.test ## Do the same with the Python around them (half an hour)
	$(BIN)/python -m pip install --quiet --group mutants
	$(BIN)/python tests/mutants/mutants.py

# The same for readers in Python, whose targets are functions of tests/fuzz/readers.py.
FUZZ_READERS ?= $(notdir $(wildcard tests/fuzz/seeds/*))
FUZZ_FOUND := target/fuzz-python

$(VENV)/.fuzz: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group fuzz
	@touch $@

fuzz-python: $(VENV)/.fuzz ## Fuzz every reader in Python for FUZZ_SECONDS (30) each
	@for target in $(FUZZ_READERS); do \
		echo "== $$target"; mkdir -p $(FUZZ_FOUND)/$$target; \
		$(BIN)/python tests/fuzz/run.py $$target $(FUZZ_FOUND)/$$target tests/fuzz/seeds/$$target \
			-max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 \
			-artifact_prefix=$(FUZZ_FOUND)/$$target- || exit 1; \
	done

$(VENV)/.coverage: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group coverage
	@touch $@

# Left out is what measures time or limits files, both of which coverage itself takes.
coverage: $(VENV)/.coverage ## Which lines of the package no test reaches, into coverage/
	@rm -rf coverage && mkdir coverage
	COVERAGE_FILE=$(abspath coverage/data) $(BIN)/python -m coverage run -m pytest -n auto \
		--ignore tests/cli/test_full_disk.py -k "not comes_at_once"
	COVERAGE_FILE=$(abspath coverage/data) $(BIN)/python -m coverage combine --quiet
	COVERAGE_FILE=$(abspath coverage/data) $(BIN)/python -m coverage html --quiet -d coverage/html
	COVERAGE_FILE=$(abspath coverage/data) $(BIN)/python -m coverage report --skip-covered --sort=miss

$(VENV)/.audit: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group audit
	@touch $@

audit: $(VENV)/.audit ## Known vulnerabilities, licenses and sources of what is depended on; needs cargo-deny
	@cargo deny --version >/dev/null 2>&1 || { echo "get cargo-deny with: cargo install --locked cargo-deny"; exit 1; }
	cargo deny check
	$(BIN)/pip-audit --local --skip-editable

SOAK_MINUTES ?= 30

soak: $(VENV)/.test ## Train, then serve, for SOAK_MINUTES (30) each, and see whether memory stays flat
	$(BIN)/python benches/reliability/soak.py train --minutes $(SOAK_MINUTES)
	$(BIN)/python benches/reliability/soak.py serve --minutes $(SOAK_MINUTES)

# Peers take gigabytes; llama-cpp-python is compiled here, which takes a quarter of an hour.
$(VENV)/.peers: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group peers
	@touch $@

results: $(VENV)/.peers dist ## Run every bench that was not run yet (hours), and write docs/results.md
	$(BIN)/python benches/results/run.py
	$(BIN)/python benches/results/page.py --folder runs/results

lint: $(VENV)/.lint $(VENV)/.test ## Formatting, lints and types, all denied
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cargo fmt --all --check
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --quiet --workspace --all-targets -- -D warnings

format: $(VENV)/.lint ## Format everything
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cargo fmt --all

dist: $(VENV)/.lint ## Build the abi3 wheel and the sdist into dist/
	$(BIN)/maturin build --release --out dist
	$(BIN)/maturin sdist --out dist

crates: ## Pack the sources of all crates into dist/, for building where there is no network
	@rm -rf target/crates && mkdir -p dist target/crates/.cargo
	@cargo vendor --locked --quiet target/crates/vendor >/dev/null
	@printf '[source.crates-io]\nreplace-with = "vendored"\n\n[source.vendored]\ndirectory = "vendor"\n' \
		> target/crates/.cargo/config.toml
	tar -C target/crates -cJf dist/subgpt-crates.tar.xz .cargo vendor

clean: ## Remove everything that was built
	rm -rf $(VENV) $(INTEROP) target dist site coverage
