"""Read the result files, and name what they were measured on."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"

Result = dict[str, Any]


def load(kind: str) -> list[tuple[Path, Result]]:
    """Read the results of a kind: the latest of each model, provider and machine."""
    latest: dict[tuple[str, ...], tuple[Path, Result]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json"), key=lambda p: p.stem.rsplit("-", 3)[1:]):
        result = json.loads(path.read_text())
        latest[path.stem.rsplit("-", 3)[0], result["provider"]] = (path, result)
    return list(latest.values())


def all_figures(path: Path) -> str:
    """Return a link to a result file for a page in `docs`, in Markdown."""
    return f"[all figures](../{path.relative_to(ROOT)})"


def machine_name(result: Result) -> str:
    """Return what a result was measured on."""
    machine = result["machine"]
    return str(machine.get("gpu") or f"{machine['cpus']} cores of {machine['cpu']}").strip()


def model_name(result: Result) -> str:
    """Return the name of a result's model."""
    size = result["model"].removeprefix("random:")
    drawn = f"Random weights of {size} size" if size != result["model"] else result["model"]
    return f"{drawn}, {result['provider']}"


def reason(result: Result) -> str:
    """Return why a competitor has no figures, as far as the first comma."""
    why = result.get("missing") or result.get("failed") or "scores too far from PyTorch's in fp32"
    return str(why).removeprefix("SessionError: ").split(",")[0]
