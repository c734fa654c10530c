# The README's two commands. `source .venv/bin/activate` gives a shell the environment that they use.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test
repro: .venv/installed ; dvc repro
test: .venv/installed ; python -m pytest

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -r requirements.txt
	touch $@
