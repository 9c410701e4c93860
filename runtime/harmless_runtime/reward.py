"""Give TRL's trainers the scorer as a reward function."""

import math
import os
from collections.abc import Callable
from typing import Any

from harmless_runtime.choices import DEFAULT_MODEL
from harmless_runtime.item_scores import score_items
from harmless_runtime.rows.items import Column, Items
from harmless_runtime.rows.shapes import Shape, reading_of
from harmless_runtime.scorer import Gpt2HarmlessScorer

# The names are the caller's, because errors have them. Either may be a list of messages.
_SHAPE = Shape("completions", "prompts", output="completions")


def reward_function(model: str = DEFAULT_MODEL, **config: Any) -> Callable[..., list[float | None]]:
    """Load a model, and return a function that TRL's trainers (GRPO and others) call for rewards.

    The function is called by keyword, with `prompts`, `completions` and columns that it passes
    over, as TRL 1.16 does. It returns a reward for each completion, or None where a row cannot be
    scored, such as a conversation with a tool call. Higher is more harmless.

    Prompts and completions are strings or lists of messages. A prompt that is a dialogue in the
    form of hh-rlhf already, with Human: and Assistant: after blank lines, or that is wholly turns
    of a known chat template, is read turn by turn, and the completion continues it. Any other
    string is the request itself.

    Args:
        model: as in the configuration.
        config: other keys of the configuration. `device` is by default the number in LOCAL_RANK,
            which `accelerate` and `torchrun` set, so that each process uses its own GPU.

    Raises:
        ConfigError, ArtifactError, CheckpointError, ParityError, OutputError, SessionError: as
            `Gpt2HarmlessScorer`.
    """
    return HarmlessReward(Gpt2HarmlessScorer({"model": model, "device": _local_device(), **config}))


class HarmlessReward:
    """What `reward_function` returns. Trainers log its rewards under its `__name__`.

    It can be pickled, as the scorer can. The copy loads the model when it is first called, on the
    device of the original.
    """

    def __init__(self, scorer: Gpt2HarmlessScorer) -> None:
        self.__name__ = "harmless_reward"
        self._scorer = scorer

    def __call__(self, prompts: Column, completions: Column, **_columns: Any) -> list[float | None]:
        """Return a reward for each completion, or None where a row cannot be scored."""
        columns = {"prompts": prompts, "completions": completions}
        items = Items(columns, reading_of(self._scorer.config), _SHAPE)
        rewards = score_items(items, self._scorer.engine, "nan")
        return [None if math.isnan(reward) else reward for reward in rewards.tolist()]


def _local_device() -> int:
    """Return the number of the GPU that belongs to this process among those of its machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible and "," not in visible:  # the launcher shows each process its own GPU only
        return 0
    return int(os.environ.get("LOCAL_RANK", "0"))
