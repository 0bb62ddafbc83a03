# Each target makes the environment that it needs, in a folder that git ignores.
PYTHON ?= python3
VENV ?= .venv
VENV_DEV ?= .venv-dev
PIP = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export HF_HUB_OFFLINE = 1

.PHONY: demo test check bench bench-peers clean

# The demo's scene, and what is asked of it: the scene's JSON lists what else can be asked, with the answers.
DEMO = runs/demo
DEMO_SCENE ?= --kind "tank farm" --seed 1
DEMO_ASK ?= "describe" --ask "estimate the built-up fraction" --ask "how many storage tanks are there?" \
	--ask "locate the storage tanks" --ask "outline the rightmost storage tank"

# The lean install: no torch in it. Draws a scene in a style that no model was trained on, asks, and compares.
demo: $(VENV)/.ready
	@mkdir -p $(DEMO)
	@$(VENV)/bin/python -c "import importlib.util as u; raise SystemExit('torch is installed' if u.find_spec('torch') else 0)"
	$(VENV)/bin/gmrt sample $(DEMO)/scene.tif $(DEMO_SCENE)
	$(VENV)/bin/gmrt infer $(DEMO)/scene.tif $(DEMO_ASK) \
		--format json --output $(DEMO)/answers.jsonl --overlay $(DEMO)/annotated.png
	@$(VENV)/bin/python examples/compare.py $(DEMO)/scene.json $(DEMO)/answers.jsonl
	@echo "The places are drawn in $(DEMO)/annotated.png. torch is not installed in $(VENV)."

test: $(VENV_DEV)/.ready
	$(VENV_DEV)/bin/python -m pytest -q -n 2 --dist loadfile

check: $(VENV_DEV)/.ready
	$(VENV_DEV)/bin/ruff check .
	$(VENV_DEV)/bin/ruff format --check .
	$(VENV_DEV)/bin/mypy

bench: $(VENV)/.ready
	$(VENV)/bin/python -m gmrt.benchmarks.startup

# Against other programs, which are set up under build/peers: PEERS="--int8 DIR --int4 DIR" (docs/benchmarks.md).
bench-peers: $(VENV)/.ready
	$(VENV)/bin/python -m gmrt.benchmarks.peers $(PEERS)

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
