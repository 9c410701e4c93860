"""Write the results of the long runs (kill, fuzz, soak) to docs/results."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The scripts that import this module run without pytest, which would find the tests' helpers.
sys.path.insert(0, str(Path(__file__).parents[1]))

FOLDER = Path(__file__).parents[2] / "docs/results"


def write(name: str, figures: dict[str, Any]) -> None:
    """Print the figures of a run, and write them to a file with the date."""
    result = {"date": datetime.now(UTC).date().isoformat(), **figures}
    print(result)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
