# The commands of the project. Each first installs what it needs (scripts/setup.sh) and leaves nothing running. ARGS has
# arguments for the command: make test ARGS='tests/tidy -x'

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help images reproduce-images push-images sbom docs demo test test-vm test-arm64 chaos check check-types check-tests house bench bench-quick format lock setup setup-run clean

# Some environments set this; then each of hundreds of processes would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
ARGS ?=
WORKERS ?= 4
ENGINE ?= docker
REGISTRY ?=
TAG ?= local
PLATFORMS ?=
BASE ?=
BUILD_FLAGS ?=
PUSH_FLAGS ?=
export ENGINE REGISTRY TAG PLATFORMS BASE BUILD_FLAGS PUSH_FLAGS

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup-run ## the main job with real processes: etcd, two nodes in namespaces, Pods, a crash, the history
	@$(PYTHON) -m ops.demo $(ARGS)

test: setup ## every test, WORKERS=4 folders at a time; ARGS='tests/tidy -x' runs in one process
	@$(PYTHON) -m pytest $(or $(ARGS),-n $(WORKERS))

test-vm: setup ## tests of SR-IOV and RDMA in a virtual machine: fetches qemu and a kernel (200 MB) first
	@scripts/vm-kernel.sh
	@$(PYTHON) -m pytest tests/vm $(ARGS)

test-arm64: setup ## tests of core, agent and executables as arm64 under qemu: fetches Debian's arm64 packages (1.2 GB) first
	@scripts/arm64.sh test

chaos: setup ## fault runs: faults while Pods are added and deleted, then a check; ARGS='minutes=10 seed=7'
	@$(PYTHON) -m tests.chaos $(ARGS)

check: setup ## ruff, mypy, import contracts and tests/tidy; collects all tests
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target check-types check-tests

check-types:
	@$(PYTHON) -m mypy --strict
	@.venv/bin/lint-imports

# The collection writes the bytecode of all tests, which each worker of `make test` would otherwise compile.
check-tests:
	@$(PYTHON) -m pytest -q tests/tidy
	@collected=$$($(PYTHON) -m pytest -q --collect-only -p no:cacheprovider 2>&1) || { echo "$$collected"; exit 1; }

docs: setup-docs ## the documents as a site in build/site, links and anchors checked; ARGS=serve shows it
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs $(or $(ARGS),build --strict)

house: setup ## measures of names and structure, one on each line; ARGS=--list shows the items
	@$(PYTHON) -m scripts.house $(ARGS)

bench: setup ## run all measures; write tables, plots and JSON to bench/results/
	@$(PYTHON) -m bench $(ARGS)

bench-quick: setup ## the measures in two minutes, one JSON object on each line
	@$(PYTHON) -m bench --quick $(ARGS)

images: ## build both container images; REGISTRY=registry.example.com/ TAG=0.1.0 set their names; see scripts/images.sh
	@scripts/images.sh build

reproduce-images: ## build both images twice without a cache and compare their digests
	@scripts/images.sh reproduce

push-images: ## push both images and a copy of etcd's to REGISTRY; write digests to build/images/values.yaml
	@scripts/images.sh push

sbom: setup ## write the packages of both images, with licenses, as CycloneDX JSON to build/images
	@scripts/images.sh sbom

format: setup ## format the code
	@$(PYTHON) -m ruff check --fix
	@$(PYTHON) -m ruff format

lock: setup ## pin dependencies; ARGS=--upgrade takes the newest versions
	@scripts/lock.sh $(ARGS)

setup:
	@scripts/setup.sh dev

setup-run:
	@scripts/setup.sh run

setup-docs:
	@scripts/setup.sh docs

clean: ## remove the environment, caches and results
	@rm -rf .venv .vm build dist bench/results .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
