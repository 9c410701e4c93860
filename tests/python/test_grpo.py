"""Tiny language models learn from the reward function in the trainer that it is for, TRL's GRPO."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from harmless_runtime import bundled, reward_function

trl = pytest.importorskip("trl")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TEMPLATE = "{% for m in messages %}\n\n{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
PROMPTS: dict[str, list[Any]] = {
    "requests": ["Say hello.", "Say good bye."],
    "messages": [[{"role": "user", "content": "Say hello."}]] * 2,
    "dialogues": ["\n\nHuman: Say hello.\n\nAssistant:"] * 2,
}
# A conversation with a tool has no reward.
WITHOUT = [{"role": "tool", "content": "12"}]


def model_and_tokenizer() -> tuple[Any, Any]:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)
    tokenizer.pad_token, tokenizer.chat_template = tokenizer.eos_token, TEMPLATE
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=256,
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    return GPT2LMHeadModel(config), tokenizer


def train(prompts: list[Any], rewards: list[Any], folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """Train two steps with four completions for each of two prompts.

    Returns:
        how far the weights have moved, and what the trainer has logged.
    """
    torch.manual_seed(0)
    model, tokenizer = model_and_tokenizer()
    before = model.lm_head.weight.detach().clone()
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=trl.GRPOConfig(
            output_dir=str(folder), max_steps=2, per_device_train_batch_size=8, num_generations=4,
            max_completion_length=8, learning_rate=0.01, use_cpu=True, bf16=False,
            report_to="none", logging_steps=1, shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts * 4, "topic": ["greeting"] * 8}),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    moved = (model.lm_head.weight.detach() - before).abs().max().item()
    return moved, trainer.state.log_history


def means(logged: list[dict[str, Any]]) -> list[float]:
    key = "rewards/harmless_reward/mean"
    return [log[key] for log in logged if key in log]


@pytest.mark.parametrize("kind", PROMPTS)
def test_it_learns_from_the_rewards(kind: str, tmp_path: Path) -> None:
    moved, logged = train(PROMPTS[kind], [reward_function("demo", provider="cpu")], tmp_path)
    assert len(means(logged)) == 2
    assert all(map(math.isfinite, means(logged)))
    assert moved > 0


class Recorded:
    """A reward function that keeps what another one returns."""

    __name__ = "harmless_reward"

    def __init__(self) -> None:
        self._reward = reward_function("demo", provider="cpu")
        self.returned: list[list[float | None]] = []

    def __call__(self, **columns: Any) -> list[float | None]:
        self.returned.append(self._reward(**columns))
        return self.returned[-1]


def test_rows_without_a_reward_are_left_out(tmp_path: Path) -> None:
    reward = Recorded()

    def other(completions: list[Any], **_: Any) -> list[float]:
        return [len(completion[0]["content"]) / 10 for completion in completions]

    moved, logged = train([PROMPTS["messages"][0], WITHOUT], [reward, other], tmp_path)
    assert moved > 0
    assert len(reward.returned) == 2
    for returned, mean in zip(reward.returned, means(logged), strict=True):
        given = [value for value in returned if value is not None]
        assert len(given) == 4
        assert len(returned) == 8
        assert mean == pytest.approx(sum(given) / 4, abs=1e-4)
