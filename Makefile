# The two commands of the README: make demo, make test. Nothing has to be installed before.

.DEFAULT_GOAL := help
.PHONY: help install demo test lint model reports bench release-check clean

VENV := .venv
BIN := $(VENV)/bin
# Those of the distribution first: they are built with optimisations that others often go without, and
# run Python code in up to a third less time. Some cannot make virtual environments.
PYTHON ?= $(firstword $(foreach name,$(foreach version,3.12 3.11 3.13,/usr/bin/python$(version)) \
  python3.12 python3.11 python3.13 python3,$(shell $(name) -c \
  'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(name))))
JOBS := 2# how many tests run at once, each with servers of its own
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
  --constraint deploy/constraints.txt

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "mmbroker needs Python 3.11 or newer: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python cannot make virtual environments: apt-get install python3-venv"; exit 1; }

$(VENV)/installed: pyproject.toml deploy/constraints.txt | $(BIN)/python
	@echo "installing mmbroker into $(VENV): a minute or two"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "installing what the tests need"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/installed-train: $(VENV)/installed
	@echo "installing what training needs: torch, several gigabytes"
	@$(PIP_INSTALL) --editable '.[train]'
	@touch $@

install: $(VENV)/installed ## install the mmbroker command into .venv, and the local servers
	@$(BIN)/python -m mmbroker.deploy.local install

demo: $(VENV)/installed ## publish the demo sample and watch it ranked; ONCE=1 ends by itself
	@$(BIN)/mmbroker demo $(if $(ONCE),--once)

test: $(VENV)/installed-test ## run the tests on real servers
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/installed-test ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

model: $(VENV)/installed-train ## train the critic again and write its weights
	@$(BIN)/python -m mmbroker.models.critic.train $(ARGS)

reports: $(VENV)/installed-train ## judge the learned models again; MMBROKER_DATA=FOLDER of real tables, or the simulated part alone
	@$(BIN)/python -m mmbroker.models.report $(ARGS)

bench: $(VENV)/installed ## measure rates and latencies; QUICK=1 for under five minutes, FUZZ=1 for the fuzz alone, STRANGERS=1 for the cost of bad messages alone
	@$(BIN)/python -m mmbroker.streams.proving.benchmark $(if $(QUICK),--quick) $(if $(FUZZ),--fuzz) $(if $(STRANGERS),--strangers)

release-check: $(VENV)/installed-test ## before a release: licences and known vulnerabilities of what it depends on
	@$(BIN)/python -m mmbroker.deploy.release_check

clean: ## stop the local stack and forget its data; the virtual environment stays
	@test ! -x $(BIN)/mmbroker || $(BIN)/mmbroker stack down
	rm -rf .mmbroker
