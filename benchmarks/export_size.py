"""Measure the time and peak memory of an export, for a random GPT-2 of a given size.

    python benchmarks/export_size.py --size gpt2-large --precision fp32

The checkpoint is made in a temporary folder, and exported twice by the command `harmless export`:
without verification, and with it. Each is a process of its own. The peak resident memory is counted
by the operating system, and includes the pages of the memory-mapped checkpoint.
"""

import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import msgspec

from harmless_runtime.model.artifact import open_artifact
from suite.isolation import run_harmless
from suite.options import plain_parser
from suite.workload import SIZES, save_random_checkpoint

# Most tokens of a text. With bytes as tokens, most of the bundled texts are longer.
MAX_LENGTH = 128


def export(checkpoint: Path, out: Path, precision: str, *options: str) -> dict[str, float]:
    """Run the command; return its seconds and its peak memory, also over the weights."""
    common = ["--precision", precision, "--max-length", str(MAX_LENGTH)]
    seconds, peak = run_harmless("export", checkpoint, "-o", out, *common, *options)
    weights = (checkpoint / "model.safetensors").stat().st_size
    return {
        "seconds": round(seconds, 1),
        "peak_gb": round(peak / 1e9, 2),
        "peak_over_weights": round(peak / weights, 2),
    }


def main() -> None:
    """Measure, print, and write `benchmarks/results/export-SIZE-PRECISION.json`."""
    parser = plain_parser(__doc__)
    parser.add_argument("--size", choices=SIZES, default="gpt2-large")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, out = Path(folder, "checkpoint"), Path(folder, "artifact")
        save_random_checkpoint(checkpoint, arguments.size, tokenizer=None)
        exported = export(checkpoint, out, arguments.precision, "--no-verify")
        verified = export(checkpoint, out, arguments.precision, "--force")
        manifest = open_artifact(out).manifest
        result = {
            "size": arguments.size,
            "precision": arguments.precision,
            "max_length": MAX_LENGTH,
            "parameters": manifest.parameters,
            "checkpoint_gb": round((checkpoint / "model.safetensors").stat().st_size / 1e9, 2),
            "export": exported,
            "export_and_verify": verified,
            "parity": [msgspec.structs.asdict(report) for report in manifest.parity],
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
            "versions": {p: version(p) for p in ("harmless-scorer", "onnxruntime", "torch")},
        }
    text = json.dumps(result, indent=2)
    print(text)
    name = f"export-{arguments.size}-{arguments.precision}.json"
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    (results / name).write_text(text + "\n")


if __name__ == "__main__":
    main()
