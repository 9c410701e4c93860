"""Write the results of the benchmarks, with everything that is needed to run them again."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suite.isolation import describe_machine
from suite.options import BENCHMARKS, Options
from suite.rounds import report_wrong
from suite.scorers import Setting


def write_result(kind: str, options: Options, setting: Setting, figures: dict[str, Any]) -> None:
    """Write one result file, and print its path."""
    today = datetime.now(UTC).date().isoformat()
    model = options.model.replace("random:", "")
    result = {
        "kind": kind,
        "date": today,
        "model": options.model,
        "tokenizer": Path(options.tokenizer).name if options.tokenizer else "bytes",
        "source": Path(options.rows).name if options.rows else None,
        "max_length": options.max_length,
        "code": revision(),
        "provider": setting.provider,
        "machine": describe_machine(setting.provider),
    } | figures
    path = options.results / f"{kind}-{Path(model).name}-{options.label}-{today}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2).replace(f"{setting.cache}/", "")
    path.write_text(text + "\n")
    print(path)


def write_compared(
    kind: str,
    options: Options,
    setting: Setting,
    results: list[dict[str, Any]],
    figures: dict[str, Any],
) -> int:
    """Write a comparison, and name the competitors with wrong scores; return the exit code."""
    write_result(kind, options, setting, figures | {"results": results})
    return report_wrong(results)


def revision(checkout: Path = BENCHMARKS) -> str:
    """Return the commit that was measured, and whether files differ from it, if git says so."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # a copy without its history, or no git
        return "unknown"
    return str(told.stdout).strip()
