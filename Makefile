# The README's commands. `source .venv/bin/activate` gives a shell the environment that they use.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: try repro test readme
try: .venv/installed ; xargs dvc exp run < profiles/tiny.args
repro: .venv/installed ; dvc repro
test: .venv/installed ; python -m pytest
readme: .venv/installed ; python -m stages.report --readme

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -r requirements.txt
	touch $@
