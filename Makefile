# `make demo` and `make test` do all of their own set-up: a virtual environment with the locked dependencies.
# Variables: PYTHON (3.11 or newer), TORCH_INDEX (an extra package index for torch), ARGS (for `demo`, `soak`, `lock`).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Without an NVIDIA driver torch comes from PyTorch's own index of CPU builds, a tenth of the size.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
TORCH = $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
BIN = .venv/bin
LOCKS = docker/requirements

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: install demo test pytest soak check browser promtool lock sbom

install: .venv/installed

.venv/installed: $(LOCKS)/dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "lookalike needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --require-hashes -r $(LOCKS)/dev.txt
	$(BIN)/python -m pip install --retries 1 --timeout 30 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	$(BIN)/lookalike demo $(ARGS)

# The checks take one core for half a minute, in which the first tests mostly wait.
test: install browser promtool
	@$(MAKE) --no-print-directory -j 2 check pytest

# Two processes share the tests, file by file; threads that wait for one another leave them the cores.
pytest: install
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# Kills, stops and cuts everything for 30 minutes: docs/reliability.md. ARGS="--minutes 5" for fewer.
soak: install
	$(BIN)/python -m tests.faults $(ARGS)

# The console is tested in Debian's Chromium; where that cannot be installed, its tests are skipped.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -qq && apt-get install -qq -y chromium >/dev/null; } || \
	    echo "no Chromium: the console is not tested"

# Debian's promtool asks the same of the alerts as Prometheus does; where it cannot be had, its tests are skipped.
promtool: install browser
	@command -v promtool >/dev/null || [ -x $(BIN)/promtool ] || \
	    { cd .venv && apt-get download -qq prometheus 2>/dev/null && \
	    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -C bin --strip-components=3 ./usr/bin/promtool && \
	    rm prometheus_*.deb; } || \
	    echo "no promtool: Prometheus is not asked about the alerts"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Torch stays out of the locks, because its build differs by machine. The two images get the versions of dev.txt.
COMPILE = .venv/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-emit-find-links \
    --no-emit-index-url --no-emit-trusted-host --unsafe-package torch --unsafe-package pip --build-deps-for editable \
    $(if $(TORCH_INDEX),--pip-args "--retries 1 --extra-index-url $(TORCH_INDEX)")

lock: install
	"$(PYTHON)" -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet pip-tools==7.6.2
	$(COMPILE) $(ARGS) --extra worker --extra otel --extra embedded --extra dev -o $(LOCKS)/dev.txt pyproject.toml
	$(COMPILE) --constraint $(LOCKS)/dev.txt --extra worker --extra otel -o $(LOCKS)/worker.txt pyproject.toml
	$(COMPILE) --constraint $(LOCKS)/dev.txt --extra otel -o $(LOCKS)/api.txt pyproject.toml
	sed -i '/^# WARNING: /,$$d' $(LOCKS)/dev.txt $(LOCKS)/worker.txt $(LOCKS)/api.txt
	$(MAKE) sbom

# What each image holds beside its base, as CycloneDX: its lock, and torch for the worker.
CYCLONEDX = PYTHONWARNINGS=ignore .venv/sbom/bin/cyclonedx-py requirements --pyproject pyproject.toml \
    --spec-version 1.6 --output-reproducible --output-format JSON

sbom:
	"$(PYTHON)" -m venv .venv/sbom
	.venv/sbom/bin/python -m pip install --quiet cyclonedx-bom==7.5.0
	mkdir -p docker/sbom
	$(CYCLONEDX) --output-file docker/sbom/api.cdx.json $(LOCKS)/api.txt
	{ cat $(LOCKS)/worker.txt; echo "$(TORCH)"; } | $(CYCLONEDX) --output-file docker/sbom/worker.cdx.json -
