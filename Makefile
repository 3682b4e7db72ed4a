# Two commands on a fresh machine: `make study` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?=
FAST := not workflow and not slow and not long
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: study test test-fast test-long test-cluster test-kill bench check docs container clean-unused

study: $(VENV)/study.done ## run the default study, or CONFIG=studies/….yaml, on all cores
	$(if $(CONFIG),distill check $(CONFIG))
	snakemake --cores all $(if $(CONFIG),--configfile $(CONFIG))

test: $(VENV)/test.done check ## style checks, fast tests, then slow and workflow tests
	pytest -q -n 2 -m "$(FAST)"
	pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "(workflow or slow) and not long" --durations=15

test-fast: $(VENV)/test.done ## all tests but slow and workflow tests; about a minute
	pytest -q -n 2 -m "$(FAST)"

test-long: $(VENV)/test.done ## the default study on the embedded teacher, twice, and test-cluster
	pytest -q -m long

test-cluster: $(VENV)/test.done ## a study and failures on a SLURM of one node; as root, with Debian's packages
	pytest -q -m long tests/cluster --durations=0

test-kill: $(VENV)/test.done ## kill a study two dozen times; prints the time that this costs
	pytest -q tests/workflow_state/test_kill.py

bench: $(VENV)/bench.done ## speed and memory against peers and the machine's limit; keep it idle
	python benchmarks/run.py

check: $(VENV)/test.done ## style, types, Snakemake's own lint
	ruff check .
	ruff format --check .
	mypy
	cd scripts && lint-imports --config ../pyproject.toml
	snakefmt --check Snakefile rules
	snakemake --lint

docs: $(VENV)/docs.done ## build the site into site/ without network; a broken link is an error
	mkdocs build --strict

container: $(VENV)/study.done ## regenerate envs/container.def; needs conda
	distill container

clean-unused: $(VENV)/study.done ## list results that no run of the config uses; DELETE=1 removes them
	distill unused $(CONFIG) $(if $(DELETE),--delete)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Plain pip: on other machines, pip's index configuration selects CPU or CUDA builds of torch.
$(VENV)/study.done: envs/requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet -r envs/requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/test.done: envs/requirements-test.txt envs/requirements-harness.txt $(VENV)/study.done
	$(BIN)/pip install --quiet -r envs/requirements-test.txt
	touch $@

$(VENV)/bench.done: envs/requirements-bench.txt $(VENV)/test.done
	$(BIN)/pip install --quiet --no-deps -r envs/requirements-bench.txt
	touch $@

$(VENV)/docs.done: envs/requirements-docs.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet -r envs/requirements-docs.txt
	touch $@
