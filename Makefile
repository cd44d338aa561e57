# Two commands from a fresh clone: `make demo` and `make test`. Both build .venv first; a second call reuses it.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# tools of the documentation and of releases
DOCS_BIN := .venv-docs/bin
DOCS_STAMP := .venv-docs/.installed
# libgomp's barriers spin: on a busy machine a small network is a hundred times slower with more threads than idle cores
export OMP_NUM_THREADS ?= 1

.PHONY: bench demo test slow tables shells gpu notebooks docs docs-serve docs-source shots lint release-check matrix clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/art-ext demo --out runs/demo

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

slow: $(STAMP)
	$(BIN)/pytest -m slow
	$(BIN)/pytest --nbmake --nbmake-timeout=600 notebooks

# the own cost of every attack beside the stored one: lists what got worse beyond the noise, and fails then
bench: $(STAMP)
	$(BIN)/python -m art_ext.benchmarks.speed --baseline benchmarks/speed.json

# the notebooks with their outputs, from their sources; without warnings, which name folders of the machine
notebooks: $(STAMP)
	PYTHONWARNINGS=ignore $(BIN)/jupytext --to ipynb --execute notebooks/*.py

# the tables in README and docs: from the registry, the configuration classes and the files of measured tables
tables: $(STAMP)
	$(BIN)/python -m art_ext.tables

# the shell classes and type stubs, from the registry of attacks
shells: $(STAMP)
	$(BIN)/python -m art_ext.attacks.generate

# the card of a GPU in runs/gpu.json, at most 9 minutes; ART_EXT_DATA names the folder of CIFAR-10
gpu: $(STAMP)
	$(BIN)/python -m art_ext.benchmarks.gpu $(if $(ART_EXT_DATA),--data $(ART_EXT_DATA))

# screenshots of five reports, of their cards and of some pages of site/, in runs/shots/
shots: $(STAMP)
	$(BIN)/python -m tests.browser.shots

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the site in site/, without network; its tools have an environment of their own. --strict does not count what --quiet
# hides
docs: docs-source
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --strict --config-file build/site/mkdocs.yml

# the same, shown at http://127.0.0.1:8000
docs-serve: docs-source
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs serve --config-file build/site/mkdocs.yml

docs-source: $(STAMP) $(DOCS_STAMP)
	$(BIN)/python -m tools.docs_source

# wheel and source archive in dist/, their contents, their description and the versions
release-check: $(STAMP) $(DOCS_STAMP)
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(DOCS_BIN)/twine check --strict dist/*
	$(DOCS_BIN)/cffconvert --validate
	$(DOCS_BIN)/python tools/classifiers.py
	$(BIN)/pytest -q tests/test_package_index.py tests/test_packaging.py

# the wheel in an empty environment of each Python at hand
matrix: release-check
	$(BIN)/python tools/matrix.py dist/*.whl

# RobustBench comes last and in a command of its own: torchattacks' wheel carries a stub package of the same name
$(STAMP): pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --editable ".[all,test,torchattacks]"
	$(BIN)/python -m pip install --quiet --editable ".[robustbench]"
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall "robustbench==1.1.1"
	touch $(STAMP)

$(DOCS_STAMP): pyproject.toml
	$(PYTHON) -m venv .venv-docs
	$(DOCS_BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DOCS_BIN)/python tools/extra.py docs > .venv-docs/requirements.txt
	$(DOCS_BIN)/python -m pip install --quiet --requirement .venv-docs/requirements.txt
	touch $(DOCS_STAMP)

clean:
	rm -rf .venv .venv-docs site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
