# The two that matter to a newcomer: `make demo` and `make test`. Each sets up what it needs first.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PY := .venv/bin/python
CONTEXT ?=
SIZE ?= 100,1000,10000
DIST ?= dist

.PHONY: .programs .node help setup demo up node test check unit e2e chaos matrix pythons docs recording picture chart manifests image bench mutation audit format lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: ## virtual environment, control-plane binaries, Debian packages (as root); quick when nothing is missing
	@tools/setup.sh

demo: setup ## the main job, shown on a real Kubernetes API server (CONTEXT=name: on a cluster of yours)
	@$(PY) -m sandbox.demo $(if $(CONTEXT),--context $(CONTEXT))

up: setup ## the demo's world left running, with lines to paste in another terminal
	@$(PY) -m sandbox.demo --keep

node: setup ## a real Kubernetes node with the operator's image on it, left running (root on Linux)
	@$(PY) -m sandbox.node up --operator

test: setup .programs .node ## every test, in two lanes side by side (ARGS="-k name": those, in one)
	@$(PY) -m $(if $(ARGS),pytest $(ARGS),tools.lanes)

check: .venv/.ready ## format, lint, types, wings, words, docs, workflows, unit tests with coverage: about a minute on two free cores
	@tools/check.sh

unit: .venv/.ready ## unit tests alone
	@$(PY) -m pytest -m "not e2e and not slow and not clients and not node" $(ARGS)

e2e: setup .programs ## tests on the sandbox alone
	@$(PY) -m pytest -m e2e $(ARGS)

chaos: setup ## random faults on both sides, then the proof that nothing was lost (ARGS="--seed 7 --seconds 600")
	@$(PY) -m tests.chaos.chaos $(ARGS)

matrix: setup ## end-to-end and failure tests on the least, the default and the newest Kubernetes (ARGS=--every, ARGS=1.34.1)
	@$(PY) -m tools.matrix $(ARGS)

pythons: setup ## unit tests and an end-to-end story on each Python from 3.11 on that is here (ARGS="3.12 3.14": on those)
	@$(PY) -m tools.pythons $(ARGS)

docs: .venv/.ready ## the documentation site, in dist/docs/site; its links and anchors are checked
	@$(PY) -m tools.site

picture: setup ## draws the dashboard from a real Prometheus, about three minutes: docs/dashboard.svg
	@$(PY) -m tests.monitoring.picture

recording: setup ## records `make demo` for the documentation: docs/demo.cast and docs/demo.md
	@$(PY) -m tools.recording

chart: setup ## writes what the chart and docs/resource.md repeat of deploy/, crds/ and the version
	@$(PY) -m charts.generate

manifests: setup ## dist/crds.yaml and dist/install.yaml, as a release has them
	@mkdir -p $(DIST) && cp crds/dbclusterref.io_databaseclusterrefs.yaml $(DIST)/crds.yaml
	@"$$($(PY) -m sandbox --fetch-only)/kubectl" kustomize deploy >$(DIST)/install.yaml

image: ## builds the image with buildah or docker; loads it into kind, k3d or minikube, if that is your kubectl context
	@tools/image.sh $(if $(IMAGE),--image $(IMAGE)) $(if $(PUSH),--push)

bench: setup ## benchmarks on the sandbox, about 40 minutes; SIZE=1000 for one size
	@$(PY) -m benchmarks --sizes $(SIZE)

mutation: .venv/.ready ## mutation testing of secret/ and resource/, about ten minutes (ARGS=results: what survived)
	@tools/mutation.sh $(ARGS)

format: .venv/.ready ## formats the code, fixes what ruff can fix
	@$(PY) -m ruff check --fix --exit-zero --quiet . && $(PY) -m ruff format .

audit: .venv/.ready ## a bill of materials with licences (dist/), and whether a vulnerability of any package is known
	@$(PY) -m tools.audit $(ARGS)

lock: .venv/.ready ## writes requirements/*.txt from pyproject.toml
	@PATH="$(CURDIR)/.venv/bin:$$PATH" requirements/lock.sh

clean: ## removes what `make setup` and the tools left in this folder (the binaries' cache stays)
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* dist build

.programs: setup
	@$(PY) -m sandbox.binaries helm flux etcdutl verdicts >/dev/null

.node: setup
	@$(PY) -m sandbox.node prepare >/dev/null || [ $$? = 3 ]  # 3: no node can run here, and its tests say so

.venv/.ready: requirements/dev.txt pyproject.toml tools/setup.sh
	@tools/setup.sh --python-only
