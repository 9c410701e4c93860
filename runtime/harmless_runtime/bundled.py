"""Name the files that come with the package: rows, pairs, and a tiny model to score them with."""

from pathlib import Path

ROWS = Path(__file__).parent / "demo_rows.jsonl"
# Requests with a harmless and a harmful answer, written before the model was trained.
PAIRS = Path(__file__).parent / "demo_pairs.jsonl"
MODEL = Path(__file__).parent / "demo_model"
# The name by which a configuration asks for the bundled model.
MODEL_NAME = "demo"
