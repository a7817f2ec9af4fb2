# The commands of the project. Each sets itself up first (scripts/setup.sh does only what is missing)
# and leaves nothing running. ARGS is handed on: make test ARGS='tests/tidy -x'

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help images reproduce-images push-images sbom docs demo test test-vm test-arm64 chaos check house bench bench-quick format lock setup setup-run clean

PYTHON := .venv/bin/python
ARGS ?=
WORKERS ?= 3
ENGINE ?= docker
REGISTRY ?=
TAG ?= local
PLATFORMS ?=
BASE ?=
BUILD_FLAGS ?=
export ENGINE REGISTRY TAG PLATFORMS BASE BUILD_FLAGS

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup-run ## the main job, for real: etcd, two nodes in namespaces, Pods, a crash, the history
	@$(PYTHON) -m ops.demo $(ARGS)

test: setup ## every test, WORKERS=3 folders at a time; ARGS='tests/tidy -x' runs in one process
	@$(PYTHON) -m pytest $(or $(ARGS),-n $(WORKERS))

test-vm: setup ## SR-IOV and RDMA in a virtual machine: fetches qemu and a kernel (200 MB) first
	@scripts/vm-kernel.sh
	@$(PYTHON) -m pytest tests/vm $(ARGS)

test-arm64: setup ## core, agent and executables as arm64 under qemu: fetches Debian's arm64 packages (1.2 GB) first
	@scripts/arm64.sh test

chaos: setup ## faults while Pods come and go, judged by a checker of its own; ARGS='minutes=10 seed=7'
	@$(PYTHON) -m tests.chaos $(ARGS)

check: setup ## style, types, layers and tidiness
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m mypy --strict
	@.venv/bin/lint-imports
	@$(PYTHON) -m pytest -q tests/tidy

docs: setup-docs ## the documents as a site in build/site, links and anchors checked; ARGS=serve shows it
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs $(or $(ARGS),build --strict --quiet)

house: setup ## how readable names and documents are, one measure a line; ARGS=--list names what counts
	@$(PYTHON) -m scripts.house $(ARGS)

bench: setup ## tables, plots and JSON into bench/results/
	@$(PYTHON) -m bench $(ARGS)

bench-quick: setup ## the measures in two minutes, one JSON object a line
	@$(PYTHON) -m bench --quick $(ARGS)

images: ## both container images; REGISTRY=registry.example.com/ TAG=0.1.0 name them; see scripts/images.sh
	@scripts/images.sh build

reproduce-images: ## builds both images twice without a cache and compares their digests
	@scripts/images.sh reproduce

push-images: ## both images and a copy of etcd's into REGISTRY; digests into build/images/values.yaml
	@scripts/images.sh push

sbom: setup ## the packages of both images, CycloneDX JSON into build/images
	@scripts/images.sh sbom

format: setup ## rewrite the code in house format
	@$(PYTHON) -m ruff check --fix
	@$(PYTHON) -m ruff format

lock: setup ## pin dependencies anew; ARGS=--upgrade takes the newest
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
