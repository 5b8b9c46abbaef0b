# Every target sets up what it needs: a virtual environment in $(VENV), made anew when pyproject.toml changed.

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
WORKERS ?= 2
DIST ?= dist
TYPED ?= .venv-typed
LOWEST_VENV ?= .venv-lowest
PYRIGHT := 1.1.414

PY := $(VENV)/bin/python
BENCH_PY := $(BENCH_VENV)/driver/bin/python
SDK_PY := $(SDK_VENV)/bin/python
PIP_FLAGS := --quiet --disable-pip-version-check
PYTEST := $(PY) -m pytest -n $(WORKERS)
SDK_VENV ?= .venv-sdks
SERVERS := nginx squid haproxy microsocks prometheus node go
# Where the package has another name than what it installs.
PACKAGE_node := nodejs
PACKAGE_go := golang-go

.PHONY: help demo test test-h11 test-peers test-sdks test-full soak failover observing exporting lint types typed test-lowest snapshots bench build clean

help:
	@echo "make demo        the main job, against a server on loopback; needs only Python and pip"
	@echo "make test        the tests that need only Python and pip, in random order"
	@echo "make test-h11    the tests of what is on the wire, without the extra speed"
	@echo "make test-peers  the tests against real servers; needs $(SERVERS)"
	@echo "make test-full   the tests with the written numbers, which take minutes; needs nginx node go"
	@echo "make test-sdks   the adapters under real SDKs, beside the tools for those clients, and in their own suites"
	@echo "make soak        half an hour against servers that break in every way; needs nginx and haproxy; SECONDS=60"
	@echo "make test-lowest with the lowest versions of what the library stands on that pyproject.toml allows"
	@echo "make lint types  ruff and mypy"
	@echo "make typed       a typed project under mypy and pyright, with the wheel installed; needs node and npm"
	@echo "make snapshots   what is public, what users build on, and every message, written down anew: read the difference"
	@echo "make bench       pooltransport beside its peers, five minutes; needs nginx; BENCH_FLAGS='--only small' or '--full'"
	@echo "make failover    three backends, one dead: ours and the peers' requests that fail; BENCH_FLAGS='--seconds 60'"
	@echo "make exporting   what exporters of metrics and spans cost a request, and a scrape; needs nginx"
	@echo "make observing   what leak levels, hooks and a scraper cost a request; needs nginx"
	@echo "make build       sdist and wheel in $(DIST)/, and a look whether the wheel works"
	@echo "PYTHON=python3.13 VENV=.venv-3.13 make test   with another Python"

# Only what the library needs.
$(VENV)/.ready: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install $(PIP_FLAGS) --editable .
	touch $@

# And the tools.
$(VENV)/.ready-dev: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $(VENV)/.ready $@

demo: $(VENV)/.ready
	$(PY) -m pooltransport demo

test: $(VENV)/.ready-dev
	$(PYTEST) -m "not peers and not full and not soak and not sdks"

# The parser is the extra's wherever it is installed, and so in `make test`: here what users have without it.
test-h11: $(VENV)/.ready-dev
	$(PYTEST) --codec h11 -m "not peers and not full and not soak and not sdks" tests/core tests/engine tests/go tests/field

test-peers: $(VENV)/.ready-dev need-servers
	$(PYTEST) -m "peers and not full"

$(SDK_VENV)/.ready-sdks: pyproject.toml
	test -x $(SDK_PY) || $(PYTHON) -m venv $(SDK_VENV)
	$(SDK_PY) -m pip install $(PIP_FLAGS) --editable '.[dev,sdks]'
	touch $@

test-sdks: $(SDK_VENV)/.ready-sdks
	$(SDK_PY) -m pytest -n $(WORKERS) -m sdks

test-full: $(VENV)/.ready-dev need-full
	POOLTRANSPORT_FULL=1 $(PYTEST) -m "(full or scaled) and not sdks" --timeout 600

# Half an hour as written; SECONDS=60 for a look.
SECONDS ?= 1800
soak: $(VENV)/.ready-dev need-soak
	POOLTRANSPORT_SOAK=$(SECONDS) $(PY) -m pytest -m soak -s --timeout $$(( $(SECONDS) + 300 ))

failover: $(BENCH_VENV)/.ready
	BENCH_VENVS="$(abspath $(BENCH_VENV))" $(BENCH_PY) -m benchmarks.failover $(BENCH_FLAGS)

# All that are missing are named at once, with the line that installs them.
.PHONY: need-nginx need-full need-soak need-servers need-node
need-nginx: NEEDED := nginx
need-full: NEEDED := nginx node go
need-soak: NEEDED := nginx haproxy
need-servers: NEEDED := $(SERVERS)
need-node: NEEDED := node npm
need-nginx need-full need-soak need-servers need-node:
	@missing=; $(foreach server,$(NEEDED), \
		PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v $(server) >/dev/null \
			|| missing="$$missing $(or $(PACKAGE_$(server)),$(server))";) \
	[ -z "$$missing" ] || { echo "missing:$$missing; apt-get install$$missing" >&2; exit 1; }

lint: $(VENV)/.ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.ready-dev
	$(PY) -m mypy

snapshots: $(VENV)/.ready-dev
	$(PY) tests/test_public_api.py --write
	$(PY) tests/test_stability.py --write
	$(PY) -m tests.support.messages --write

# One Python, and of the tests those that meet other people's code: it is their versions that are in question.
LOWEST_TESTS := tests/client tests/runtime tests/testing/test_[!p]*.py tests/core/http1 tests/adapters tests/engine/test_round_trip.py \
	tests/engine/test_codings.py tests/engine/test_hops.py tests/engine/test_tls.py tests/observe/test_otel.py \
	tests/observe/test_prometheus.py tests/observe/test_spans.py tests/test_trust_files.py tests/test_url.py
LOWEST_PY := $(LOWEST_VENV)/bin/python

$(LOWEST_VENV)/.ready: pyproject.toml tests/support/lowest.py
	test -x $(LOWEST_PY) || $(PYTHON) -m venv $(LOWEST_VENV)
	$(LOWEST_PY) tests/support/lowest.py >$(LOWEST_VENV)/lowest.txt
	$(LOWEST_PY) -m pip install $(PIP_FLAGS) --editable . --requirement $(LOWEST_VENV)/lowest.txt \
		hypothesis jsonschema opentelemetry-sdk pytest-randomly pytest-timeout pytest-xdist trustme
	touch $@

test-lowest: $(LOWEST_VENV)/.ready
	$(LOWEST_PY) -m pytest -n $(WORKERS) --ignore tests/adapters/sdks \
		-m "not peers and not full and not soak and not sdks" $(wildcard $(LOWEST_TESTS))

# The sample project sees the wheel, as a user's project does, and none of the sources. pyright comes from npm: the
# package of that name on PyPI would fetch a node of its own.
typed: $(VENV)/.ready-dev need-node
	rm -rf $(TYPED) && mkdir $(TYPED)
	$(PY) -m build --wheel --outdir $(TYPED)/dist >$(TYPED)/log || { cat $(TYPED)/log >&2; exit 1; }
	$(PY) -m venv $(TYPED)/venv
	$(TYPED)/venv/bin/python -m pip install $(PIP_FLAGS) $(TYPED)/dist/*.whl 'mypy>=1.11'
	npm install --prefix $(TYPED) --silent --no-audit --no-fund pyright@$(PYRIGHT)
	at="$$(cd $(TYPED) && pwd)" && cd tests/typed_sample && unset PYTHONPATH MYPYPATH && \
	"$$at/venv/bin/python" -P check_wheel.py && \
	"$$at/venv/bin/python" -X dev -W error -m ledger.checks && \
	"$$at/venv/bin/mypy" --config-file mypy.ini --cache-dir "$$at/mypy" && \
	"$$at/node_modules/.bin/pyright" -p . --pythonpath "$$at/venv/bin/python"

# The driver's own; each client has another, and one that cannot be made is missing in the report.
$(BENCH_PY):
	$(PYTHON) -m venv $(BENCH_VENV)/driver
	$(BENCH_PY) -m pip install $(PIP_FLAGS) matplotlib trustme

$(BENCH_VENV)/.ready: pyproject.toml Makefile benchmarks/environments.py $(wildcard benchmarks/gopeer/*) | $(BENCH_PY)
	BENCH_VENVS="$(abspath $(BENCH_VENV))" $(BENCH_PY) -m benchmarks.environments
	touch $@

bench: $(BENCH_VENV)/.ready need-nginx
	BENCH_VENVS="$(abspath $(BENCH_VENV))" $(BENCH_PY) -m benchmarks.run $(BENCH_FLAGS)

observing: $(VENV)/.ready-dev need-nginx
	$(PY) -m benchmarks.observing $(BENCH_FLAGS)

exporting: $(VENV)/.ready-dev need-nginx
	$(PY) -m benchmarks.exporting $(BENCH_FLAGS)

# The wheel is tried in an environment of its own, away from the sources.
build: $(VENV)/.ready-dev
	rm -rf $(DIST)
	$(PY) -m build --outdir $(DIST)
	check="$$(mktemp -d)" && trap 'rm -rf "$$check"' EXIT && dist="$$(cd $(DIST) && pwd)" && \
	$(PY) -m venv "$$check/venv" && \
	"$$check/venv/bin/python" -m pip install $(PIP_FLAGS) "$$dist"/*.whl && \
	cd "$$check" && venv/bin/python -I -c "import importlib.metadata as m, pathlib, pooltransport as p; \
		assert p.__version__ == m.version('pooltransport'); \
		assert (pathlib.Path(p.__file__).parent / 'py.typed').exists(); \
		[getattr(p, name) for name in p.__all__]; \
		from pooltransport.explain import explain, titles; \
		assert 'PT-LEAK' in titles() and 'PTC101' in titles() and all(map(explain, titles())); \
		print('the wheel works:', p.__version__)"

clean:
	rm -rf .venv .venv-* $(DIST) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
