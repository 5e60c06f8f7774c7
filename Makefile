# Two commands on a fresh machine: `make demo`, then `make test`. Everything stays below this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -c constraints.txt
TEMP := $(CURDIR)/$(VENV)/tmp
TESTED = IMPASTO_TEST_ARTIFACTS=$${IMPASTO_TEST_ARTIFACTS:-$(CURDIR)/out/tests} TMPDIR=$(TEMP) OMP_WAIT_POLICY=PASSIVE

.PHONY: demo test check bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of packages: installed once, again when pyproject.toml or the constraints change.
$(VENV)/demo.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[demo]'
	touch $@

$(VENV)/test.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[test,lint]'
	touch $@ $(VENV)/demo.stamp

demo: $(VENV)/demo.stamp
	$(BIN)/python scripts/demo.py demo

# The studio's tests look at a browser's clock: they come last, when nothing else runs, and one that fails is tried again.
test: $(VENV)/test.stamp
	mkdir -p $(TEMP)
	$(TESTED) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/studio
	$(TESTED) $(BIN)/python -m pytest --reruns 4 tests/studio

check: $(VENV)/test.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.memory

clean:
	rm -rf $(VENV) demo dist build
