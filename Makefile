# Each target makes the environment that it needs, in a folder that git ignores.
PYTHON ?= python3
VENV ?= .venv
VENV_DEV ?= .venv-dev
PIP = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export HF_HUB_OFFLINE = 1

.PHONY: demo test check bench clean

# The lean install: no torch in it. Draws a scene, looks at it, answers.
demo: $(VENV)/.ready
	@mkdir -p runs/demo
	$(VENV)/bin/gmrt sample runs/demo/sample.tif
	$(VENV)/bin/gmrt infer runs/demo/sample.tif "describe" --format json
	@$(VENV)/bin/python -c "import importlib.util as u; raise SystemExit('torch is installed' if u.find_spec('torch') else 0)"
	@echo "torch is not installed in $(VENV), and the answer is:"
	@$(VENV)/bin/gmrt infer runs/demo/sample.tif "describe"

test: $(VENV_DEV)/.ready
	$(VENV_DEV)/bin/python -m pytest -q -n 2 --dist loadfile

check: $(VENV_DEV)/.ready
	$(VENV_DEV)/bin/ruff check .
	$(VENV_DEV)/bin/ruff format --check .
	$(VENV_DEV)/bin/mypy

bench: $(VENV)/.ready
	$(VENV)/bin/python -m gmrt.benchmarks.startup

clean:
	rm -rf .venv .venv-dev build dist runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[cpu]'
	@touch $@

$(VENV_DEV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV_DEV)
	$(VENV_DEV)/bin/python $(PIP) --editable '.[train,cpu,dev]'
	@touch $@
