# Needs Python >= 3.11 and make, nothing else: every target sets up .venv by itself.

PYTHON ?= python3
# Where pip is given CPU wheels, this takes one (3 GB less than CUDA's). On Linux elsewhere PyPI's wheel brings CUDA along;
# without an NVIDIA card take the small one:
#   make demo TORCH='torch --index-url https://download.pytorch.org/whl/cpu'
TORCH ?= torch

BIN := .venv/bin
# The constraints pin torch: no extra moves it.
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
# Tests share the cores: as many workers, each on one thread (tests/conftest.py).
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: demo dev docs test numerics wheel slow snapshots fuzz soak mutants full lint clean

# Faces edited, as pictures and tables: some minutes on two quiet cores after set-up, several times that on a loaded machine.
demo: .venv/base.stamp
	$(BIN)/ganvas demo --out out
	@echo "The demo's pictures are in out/: open out/index.html."

# What tests and checks need in .venv, for commands of your own.
dev: .venv/dev.stamp
	@echo "Set up: source .venv/bin/activate"

# The site, with its tutorials run; GANVAS_DOCS=small runs them at small sizes. What didn't change isn't run again.
docs: .venv/docs.stamp
	$(BIN)/python -m sphinx -W -b html docs out/docs
	@echo "Open out/docs/index.html."

# What must hold; a few minutes.
test: .venv/dev.stamp
	$(PYTEST)

# What depends on the processor's kernels, as other processors have them.
numerics: .venv/dev.stamp
	$(BIN)/python tests/numerics.py

# The wheel as users get it: in a bare environment, with nothing of the checkout.
wheel: .venv/dev.stamp
	rm -rf dist .work/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*.whl
	find dist -name '*.whl' -size +60M -exec false {} +
	$(PYTHON) -m venv .work/wheel
	.work/wheel/bin/python -m pip install --quiet --no-compile -c constraints.txt $(TORCH)
	.work/wheel/bin/python -m pip install --quiet --no-compile -c constraints.txt dist/*.whl
	cd .work && wheel/bin/ganvas list && wheel/bin/ganvas demo --small --out wheel/out

# What takes long.
slow: .venv/dev.stamp
	$(PYTEST) -m slow

# All snapshots of behaviour, those that take long, too.
snapshots: .venv/dev.stamp
	$(PYTEST) -m 'snapshots or not snapshots' tests/test_snapshots.py

# 20,000 damaged files: each ends in a result or in one line. Minutes.
fuzz: .venv/dev.stamp
	$(BIN)/python tests/fuzz.py

# Long commands killed at random moments and started again come to the same bytes. Half an hour.
soak: .venv/dev.stamp
	$(BIN)/python tests/soak.py

# 200 random changes of the code, one at a time: the tests notice most of them. Hours; goes on where it stopped.
mutants: .venv/dev.stamp
	$(BIN)/python tests/code_mutants.py

# Everything.
full: lint test numerics wheel docs slow snapshots fuzz soak mutants

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .venv .work/wheel .work/docs-cache-* out dist docs/generated .pytest_cache .ruff_cache

.venv/base.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ganvas needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) $(TORCH)
	$(PIP_INSTALL) --editable .
	touch $@

.venv/dev.stamp: .venv/base.stamp
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

.venv/docs.stamp: .venv/base.stamp
	$(PIP_INSTALL) --editable '.[docs]'
	touch $@
