"""Give TRL's trainers the scorer as a reward function."""

import math
import os
from collections.abc import Callable
from typing import Any

from harmless_runtime.choices import DEFAULT_MODEL
from harmless_runtime.item_scores import score_items
from harmless_runtime.rows.conversations import continue_dialogue, is_dialogue
from harmless_runtime.rows.items import Column, Items
from harmless_runtime.rows.records import NO_ID, Fields, Pair, Reject
from harmless_runtime.rows.shapes import Reading, Shape, reading_of
from harmless_runtime.scorer import Gpt2HarmlessScorer

# The names are the caller's, because errors have them. Either may be a list of messages.
_SHAPE = Shape("completions", "prompts", output="completions")


def reward_function(model: str = DEFAULT_MODEL, **config: Any) -> Callable[..., list[float | None]]:
    """Load a model, and return a function that TRL's trainers (GRPO and others) call for rewards.

    The function is called by keyword, with `prompts`, `completions` and columns that it passes
    over, as TRL 1.16 does. It returns a reward for each completion, or None where a row cannot be
    scored, such as a conversation with a tool call. Higher is more harmless.

    Prompts and completions are strings or lists of messages. A prompt that is a dialogue in the
    form of hh-rlhf already, with Human: and Assistant: after blank lines, is taken as it is, and
    the completion continues it. Any other string is the request itself.

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
        items = Completions(prompts, completions, reading_of(self._scorer.config))
        rewards = score_items(items, self._scorer.engine, "nan")
        return [None if math.isnan(reward) else reward for reward in rewards.tolist()]


class Completions(Items):
    """Completions with their prompts, of which some may be dialogues in the form of hh-rlhf."""

    def __init__(self, prompts: Column, completions: Column, reading: Reading) -> None:
        super().__init__({"prompts": prompts, "completions": completions}, reading, _SHAPE)

    def parsed(self, row: Fields) -> Pair | Reject:
        """Return what is made of a row. A completion continues its dialogue."""
        pair = super().parsed(row)
        prompt, completion = row.values["prompts"], row.values["completions"]
        if isinstance(pair, Pair) and isinstance(completion, str) and is_dialogue(prompt):
            texts = continue_dialogue(prompt, completion)
            return Pair(pair.source, pair.number, NO_ID, *texts)
        return pair


def _local_device() -> int:
    """Return the number of the GPU that belongs to this process among those of its machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible and "," not in visible:  # the launcher shows each process its own GPU only
        return 0
    return int(os.environ.get("LOCAL_RANK", "0"))
