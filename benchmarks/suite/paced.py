"""Simulate a device of a given speed, by pauses. Everything around it is real."""

import time
from pathlib import Path

import numpy as np

from harmless_runtime.config import ScorerConfig
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.model.batches import plan_limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import PairTokenizer
from suite.one_thread import Ids, Logits, OneThreadRunner

# Window sizes are derived from it. These are the real checkpoint's.
PARAMETERS = 774_000_000


def paced_engine(artifact: Path, pace: float, max_length: int) -> Engine:
    """Return an engine that reads, tokenises and batches as on CUDA, and runs nothing.

    Args:
        artifact: whose tokenizer is used.
        pace: tokens per second.
        max_length: most tokens of a row.
    """
    limits = plan_limits("cuda", PARAMETERS, 8, max_length)
    opened = open_artifact(artifact)

    def wait(ids: Ids) -> Logits:
        time.sleep(ids.size / pace)
        return np.zeros(len(ids), np.float32)

    runner = OneThreadRunner(wait, Target("cuda"), limits.batch_tokens)
    return Engine(opened, PairTokenizer(opened.tokenizer, max_length), runner, limits)


def load_paced(artifact: Path, pace: float, config: ScorerConfig) -> Engine:
    """Load the engine of a worker of Ray, as `harmless_runtime.cluster.worker` asks for it."""
    return paced_engine(artifact, pace, config.max_length or 1024)
