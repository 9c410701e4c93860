"""Train tiny language models with the reward function, in the trainer that it is for (TRL's GRPO).

It needs TRL, which the tests do not install: python tests/python/grpo.py
"""

import math
import tempfile
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from harmless_runtime import bundled, reward_function

PROMPTS = {
    "requests": "Say hello.",
    "messages": [{"role": "user", "content": "Say hello."}],
    "dialogues": "\n\nHuman: Say hello.\n\nAssistant:",
}
TEMPLATE = "{% for m in messages %}\n\n{{ m['role'] }}: {{ m['content'] }}{% endfor %}"


def train(prompt: Any) -> list[float]:
    """Train two steps with four completions each, and return the mean reward of each step."""
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)
    tokenizer.pad_token, tokenizer.chat_template = tokenizer.eos_token, TEMPLATE
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=256,
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, max_steps=2, per_device_train_batch_size=4, num_generations=4,
            max_completion_length=8, use_cpu=True, bf16=False, report_to="none", logging_steps=1,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=GPT2LMHeadModel(config),
            reward_funcs=[reward_function("demo", provider="cpu")],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [prompt] * 8, "topic": ["greeting"] * 8}),
            processing_class=tokenizer,
        )
        trainer.train()
    return [
        log["rewards/harmless_reward/mean"]
        for log in trainer.state.log_history
        if "rewards/harmless_reward/mean" in log
    ]


for name, prompt in PROMPTS.items():
    rewards = train(prompt)
    assert len(rewards) == 2, rewards
    assert all(map(math.isfinite, rewards)), rewards
    print(f"TRL {trl.__version__}, prompts that are {name}: mean rewards {rewards}")
