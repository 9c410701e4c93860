# Works on a fresh clone with nothing but Python >= 3.11 and its venv module.
PYTHON ?= python3
BIN := .venv/bin
PAIRS ?= hh_harmless_base_test.jsonl.gz

.PHONY: help demo test slow lint fmt docs demo-model clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/demo.stamp ## score bundled rows with the bundled model
	$(BIN)/harmless demo

test: lint ## lint, and run the fast tests (minutes)
	$(BIN)/pytest

slow: .venv/test.stamp ## run the slow tests (minutes more)
	$(BIN)/pytest -m slow

lint: .venv/test.stamp ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: .venv/test.stamp ## format the code, and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/docs.stamp ## build the documents as a site in build/site, without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "the pages are in build/site: open build/site/index.html"

demo-model: .venv/test.stamp ## train the bundled model again from Anthropic's pairs (PAIRS=FILE)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo-model]'
	$(BIN)/python export/train_demo_model.py $(PAIRS) build/demo-checkpoint
	rm -rf runtime/harmless_runtime/demo_model
	$(BIN)/harmless export build/demo-checkpoint -o runtime/harmless_runtime/demo_model
	sed -i 's#"source": "/.*/build/#"source": "build/#' runtime/harmless_runtime/demo_model/scorer.json
	cp build/demo-checkpoint/README.md build/demo-checkpoint/training.json runtime/harmless_runtime/demo_model

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cpu]'
	touch $@

.venv/test.stamp: .venv/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cpu,export,parquet,remote,test]'
	touch $@ .venv/demo.stamp

.venv/docs.stamp: .venv/demo.stamp
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cpu,docs]'
	touch $@

clean: ## remove the environment and what was built
	rm -rf .venv build dist
