# The commands of the README. `source .venv/bin/activate` gives a shell the environment that they use.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PROFILES = $(sort $(basename $(notdir $(wildcard profiles/*.args))))
LAST_RUN = .scratch/params.yaml
PUBLISHED = metrics plots REPORT.md docs/DATASET_CARD.md

.PHONY: help try run reset repro test readme deps graph constraints

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1#/p' Makefile | awk -F'#' '{ printf "%-20s%s\n", $$1, $$2 }'
	@echo 'profiles: $(PROFILES)'

try: override PROFILE = tiny
try: run  ## run every stage on 400 cards (PROFILE=tiny)
	@echo 'REPORT.md and plots/ hold the results. Next: source .venv/bin/activate; python -m medcards search "crooked teeth"'

run: .venv/installed  ## run a profile on the committed parameters: PROFILE=NAME [ARGS="-S lora.r=8"] [STAGE=NAME]
	@test -f "profiles/$(PROFILE).args" || { echo 'PROFILE=$(PROFILE) is not a profile; profiles: $(PROFILES)' >&2; exit 2; }
	@git diff --quiet HEAD -- params.yaml || cmp -s params.yaml $(LAST_RUN) || { echo 'params.yaml has changes of your own, and a' \
	    'profile starts from the committed file: commit them, drop them with `make reset`, or run them with `make repro`' >&2; exit 2; }
	@git restore --staged --worktree params.yaml
	set -f; dvc exp run $(shell cat profiles/$(PROFILE).args 2>/dev/null) $(ARGS) $(STAGE); \
	    status=$$?; mkdir -p .scratch; cp params.yaml $(LAST_RUN); \
	    test $$status = 0 || { echo 'The run failed. `make reset` goes back to the last commit.' >&2; exit $$status; }

reset: .venv/installed  ## go back to the parameters and results of the last commit
	git restore --staged --worktree params.yaml dvc.lock $(PUBLISHED)
	git clean -dfq metrics plots
	dvc checkout --force --allow-missing
	@for path in $$(sed -n 's/^ *- path: \(data\/.*\)/\1/p' dvc.lock | sort -u); do test -e "$$path" || missing=$$path; done; \
	    test -z "$$missing" || echo "The cache of this machine lacks data of the last commit's run, such as $$missing: \`make repro\` makes it."

repro: .venv/installed  ## run the stages whose inputs changed: dvc repro
	@git diff --quiet HEAD -- params.yaml || echo 'params.yaml has changes that are not committed: this run uses them' >&2
	dvc repro

test: .venv/installed  ## run all tests
	python -m pytest

readme: .venv/installed  ## write the README's tables again, from metrics/
	python -m tools.readme

deps: .venv/installed  ## write the library files that each stage imports into dvc.yaml
	python -m tools.deps

graph: .venv/installed  ## draw docs/graph.svg from dvc.yaml
	python -m tools.graph

constraints: .venv/bin/python  ## resolve the requirements again and write constraints.txt
	python -m tools.constraints

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt constraints.txt pyproject.toml | .venv/bin/python
	python -m pip install -c constraints.txt -r requirements.txt
	python -m pip install --no-deps -e .
	touch $@
