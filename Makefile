# Everything runs in .venv, which `make install` makes. A second run of any target starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
EXTRAS := edge,hub,learn,vision,grpc,mqtt,camera,factory,clinic,otel,ray,bench,dev
# One thread per process: the demo and the tests run several processes side by side on small machines.
export OMP_NUM_THREADS ?= 1

.PHONY: help install demo test check bench campaign clean

help:  ## show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv with all that demo and tests need

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"edgewise needs Python 3.11 or newer, this is {v[0]}.{v[1]}; give another one: make PYTHON=python3.12") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	$(BIN)/python -m compileall -q src $(VENV)/lib >/dev/null || true
	touch $(STAMP)

demo: install  ## run the whole loop; DATA=DIR uses real photographs, ARGS="--quick" passes options
	$(BIN)/edgewise demo factory $(if $(DATA),--data "$(DATA)") $(ARGS)

test: install  ## the whole test-suite
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not campaign" $(ARGS)

check: install  ## style, types, import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## make bench NAME=loop
	@test -n "$(NAME)" || { echo "name a benchmark: make bench NAME=$$(ls bench/*.py | xargs -n1 basename -s .py | tr '\n' '|')"; exit 2; }
	@test -f bench/$(NAME).py || { echo "there is no bench/$(NAME).py"; exit 2; }
	$(BIN)/python bench/$(NAME).py $(ARGS)

campaign: install  ## slow campaigns
	$(BIN)/python -m pytest -q -n 2 -m campaign --timeout 3600 $(ARGS)

clean:  ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache
