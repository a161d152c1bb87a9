# Each target makes the environment that it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# All packages and modules of tests except the slow ones, and those of core, which are run for their coverage anyway;
# `make test TESTS=tests.api` runs a part.
TESTS := $(filter-out tests.core tests.slow,$(subst /,.,$(patsubst %/__init__.py,%,$(sort $(wildcard tests/*/__init__.py)))))
TESTS += $(subst /,.,$(patsubst %.py,%,$(sort $(wildcard tests/test_*.py))))

.PHONY: run test test-workers test-slow lint format docs bench constraints audit clean

run: $(VENV)/installed
	$(BIN)/proxyd serve --config etc/proxyd.yaml

test: $(VENV)/installed-test
	$(BIN)/coverage run --branch --source=proxyd/core -m twisted.trial --reporter=text tests.core
	$(BIN)/coverage report --show-missing --skip-covered --fail-under=100
	$(BIN)/python -m twisted.trial --rterrors $(TESTS)

# The tests of real processes once more, each proxy with two workers; those that workers make no difference for are left
# out, and so is what starts workers anyway.
WORKER_TESTS := tests.hostile tests.access.test_api $(addprefix tests.faults.test_,clock cuts drain upstreams) \
	$(addprefix tests.integration.test_,auth daemon faults managed ports relay reload serve sqlite_store streaming tls websocket)

test-workers: $(VENV)/installed-test
	PROXYD_TEST_WORKERS=2 $(BIN)/python -m twisted.trial --rterrors $(WORKER_TESTS)

test-slow: $(VENV)/installed-slow
	$(BIN)/python -m twisted.trial --rterrors tests.slow

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed
	$(BIN)/proxyd docs

# All measurements, which take a while: `make bench ONLY=small,tls`, `make bench QUICK=1`, `make bench BASE=<commit>`;
# PUBLISH=1 writes docs/performance.*, and MERGE=1 keeps what was measured before of all others.
bench: $(VENV)/installed
	$(BIN)/python bench/run.py --install $(if $(ONLY),--only $(ONLY)) $(if $(BASE),--base $(BASE)) \
		$(if $(QUICK),--quick) $(if $(MERGE),--merge) $(if $(PUBLISH),--publish)

# The newest versions that fit pyproject.toml.
constraints:
	rm -rf $(VENV)/fresh
	$(PYTHON) -m venv $(VENV)/fresh
	$(VENV)/fresh/bin/pip install --quiet .
	head -2 constraints.txt > constraints.txt.new
	$(VENV)/fresh/bin/pip freeze --exclude proxyd >> constraints.txt.new
	mv constraints.txt.new constraints.txt

# Asks PyPI for known vulnerabilities of these versions; fails where it does not know the packages, too.
audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* _trial_temp* .ci/output

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=24' 'setuptools>=77'
	touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml setup.py proxyd/core/_scan.c proxyd/net/_round.c
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/installed-lint: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[lint]'
	touch $@

$(VENV)/installed-slow: $(VENV)/installed-test
	$(BIN)/pip install --quiet --editable '.[slow]'
	touch $@
