# Works on a fresh clone with nothing but Python >= 3.11 and its venv module.
PYTHON ?= python3
BIN := .venv/bin
PAIRS ?= hh_harmless_base_test.jsonl.gz

.PHONY: demo test slow demo-model clean

demo: .venv/demo.stamp
	$(BIN)/harmless demo

test: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

slow: .venv/test.stamp
	$(BIN)/pytest -m slow

# The bundled model again, from Anthropic's pairs: minutes on two cores.
demo-model: .venv/test.stamp
	$(BIN)/python export/train_demo_model.py $(PAIRS) build/demo-checkpoint
	rm -rf runtime/harmless_runtime/demo_model
	$(BIN)/harmless export build/demo-checkpoint -o runtime/harmless_runtime/demo_model
	cp build/demo-checkpoint/README.md build/demo-checkpoint/training.json runtime/harmless_runtime/demo_model

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cpu]'
	touch $@

.venv/test.stamp: .venv/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[cpu,export,test]'
	touch $@ .venv/demo.stamp

clean:
	rm -rf .venv build dist
