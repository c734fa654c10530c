# The commands of the README. `source .venv/bin/activate` gives a shell the environment that they use.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PROFILES = $(sort $(basename $(notdir $(wildcard profiles/*.args))))
LAST_RUN = .scratch/params.yaml
PUBLISHED = metrics plots final REPORT.md docs/DATASET_CARD.md
# After a failed `dvc exp run`, git takes changed files of the same size for unchanged: its index has their new times.
REREAD = git ls-files -z params.yaml dvc.lock $(PUBLISHED) | xargs -0 touch -c

.PHONY: help try run reset repro final test readme everyday deps graph constraints

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1#/p' Makefile | awk -F'#' '{ printf "%-20s%s\n", $$1, $$2 }'
	@echo 'profiles: $(PROFILES)'

try: override PROFILE = tiny
try: run  ## run every stage on 400 cards (PROFILE=tiny)
	@echo 'REPORT.md and plots/ hold the results. Next: source .venv/bin/activate; python -m medcards search "low blood sugar". `make reset` goes back to the full deck.'

run: .venv/installed  ## run a profile on the committed parameters: PROFILE=NAME [DECK=FILE] [ARGS="-S lora.r=8"] [STAGE=NAME]
	@test -f "profiles/$(PROFILE).args" || { echo 'PROFILE=$(PROFILE) is not a profile; profiles: $(PROFILES)' >&2; exit 2; }
	@case "$$DECK" in *[!A-Za-z0-9_./-]*) echo "DECK=$$DECK: the name of the file has other characters than letters, digits" \
	    'and _ . / -; `python -m medcards check FILE --write` writes a copy with a plain name' >&2; exit 2;; esac
	@for pid in $$(grep -ohs '"pid": [0-9]*' .dvc/tmp/rwlock .dvc/tmp/exps/rwlock | grep -o '[0-9]*' | sort -u); do \
	    ! kill -0 $$pid 2>/dev/null || { echo "a run is in progress (process $$pid), and a second one would change its parameters:" \
	    'wait until it ends, or use another clone' >&2; exit 2; }; done
	@$(REREAD)
	@git diff --quiet HEAD -- params.yaml || cmp -s params.yaml $(LAST_RUN) || { echo 'params.yaml has changes of your own or of an experiment, and a' \
	    'profile starts from the committed file: commit them, drop them with `make reset`, or run them with `make repro`' >&2; exit 2; }
	@git restore --staged --worktree params.yaml
	set -f; dvc exp run $(shell cat profiles/$(PROFILE).args 2>/dev/null) $(if $(DECK),-S data.source=file -S data.path=$(DECK)) $(ARGS) $(STAGE); \
	    status=$$?; mkdir -p .scratch; cp params.yaml $(LAST_RUN); \
	    test $$status = 0 || { echo 'The run failed. `make reset` goes back to the last commit.' >&2; exit $$status; }

reset: .venv/installed  ## go back to the parameters and results of the last commit
	@$(REREAD)
	git restore --staged --worktree params.yaml dvc.lock $(PUBLISHED)
	git clean -dfq metrics plots final
	dvc checkout --force --allow-missing
	@for path in $$(sed -n 's/^ *- path: \(data\/.*\)/\1/p' dvc.lock | sort -u); do test -e "$$path" || missing=$$path; done; \
	    test -z "$$missing" || echo "The cache of this machine lacks data of the last commit's run, such as $$missing: \`make repro\` makes it."

repro: .venv/installed  ## run the stages whose inputs changed: dvc repro
	@$(REREAD)
	@git diff --quiet HEAD -- params.yaml || echo 'params.yaml has changes that are not committed: this run uses them' >&2
	dvc repro

test: .venv/installed  ## run all tests
	python -m pytest

final: .venv/installed  ## measure this run on the test questions, once, into final/
	python -m tools.final $(ARGS)

readme: .venv/installed  ## write the README's tables again, from final/metrics/
	python -m tools.readme

everyday: .venv/installed  ## ask the deck the questions of docs/everyday_questions.csv, and write docs/EVERYDAY.md
	python -m tools.everyday

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
