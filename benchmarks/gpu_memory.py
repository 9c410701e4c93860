"""Compare the GPU memory that is told beforehand with what batches of many shapes then take.

    python benchmarks/gpu_memory.py ARTIFACT [ARTIFACT ...] --tokens 8192 65536 --label NAME

The memory is what CUDA says that its device has less afterwards, so nothing else may use the
device. It is told of the session's arena alone, and so CUDA's own memory is taken before.
"""

import argparse
import json
import random
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime as ort

from harmless_runtime.config import make_config
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.model.gpu_memory import free_gpu_memory, gpu_memory_of
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.providers import choose_provider
from harmless_runtime.model.target import Target
from suite.isolation import in_a_process

_LENGTHS = range(8, 1025, 8)


@dataclass(frozen=True)
class Taken:
    """The memory of one artifact and size of batches, in bytes of weights and activations."""

    artifact: str
    precision: str
    tokens: int
    told: int
    after_loading: int
    after_all_shapes: int
    shapes: int

    @property
    def error(self) -> float:
        """How far the memory after all shapes is from what was told, as a share of it."""
        return self.after_all_shapes / self.told - 1


def shapes_of(tokens: int, seed: int = 1) -> list[tuple[int, int]]:
    """Return shapes of every length on the padding grid, full and partly filled, shuffled."""
    rng = random.Random(seed)
    full = [(max(1, tokens // length), length) for length in _LENGTHS]
    part = [(rng.randint(1, rows), length) for rows, length in rng.sample(full, 43)]
    shapes = full + part
    rng.shuffle(shapes)
    return shapes


def measure(folder: Path, tokens: int) -> Taken:
    """Run all shapes on CUDA device 0, in a process that has not used it."""
    artifact = open_artifact(folder)
    choose_provider("cuda", artifact.manifest.precision)  # which takes CUDA's own memory
    before = free_gpu_memory(0)
    config = make_config({"batch_size": tokens // artifact.manifest.max_length})
    engine = build_engine(artifact, Target("cuda"), config)
    loaded = free_gpu_memory(0)
    shapes = shapes_of(tokens)
    for shape in shapes:
        engine.runner.submit(np.zeros(shape, np.int64)).result()
    memory = gpu_memory_of(artifact)
    return Taken(
        folder.name,
        artifact.manifest.precision,
        tokens,
        memory.weights + memory.activations(tokens),
        before - loaded,
        before - free_gpu_memory(0),
        len(shapes),
    )


def main() -> None:
    """Measure, print, and write `benchmarks/results/gpu-memory-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifacts", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192])
    parser.add_argument("--label", required=True, help="a name for the device")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args()
    results = []
    for folder in args.artifacts:
        for tokens in args.tokens:
            outcome = in_a_process(measure, folder, tokens)
            if outcome.why:
                raise SystemExit(f"{folder}: {outcome.why}")
            taken = outcome.figures
            results.append(asdict(taken) | {"error": round(taken.error, 4)})
            print(json.dumps(results[-1]), flush=True)
    today = datetime.now(UTC).date().isoformat()
    content = {"kind": "gpu-memory", "date": today, "device": args.label}
    content |= {"onnxruntime": ort.__version__, "results": results}
    args.results.mkdir(parents=True, exist_ok=True)
    path = args.results / f"gpu-memory-{args.label}-{today}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
