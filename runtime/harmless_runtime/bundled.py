"""Name the files that come with the package: a few rows, and a tiny model to score them with."""

from pathlib import Path

ROWS = Path(__file__).parent / "demo_rows.jsonl"
MODEL = Path(__file__).parent / "demo_model"
# The name by which a configuration asks for the bundled model.
MODEL_NAME = "demo"
