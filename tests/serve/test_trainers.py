"""The client functions of trainers, as they are, get their rewards from a server."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from served import Served, serving
from transformers import PreTrainedTokenizerFast

from harmless_runtime import Gpt2HarmlessScorer, bundled

pytest.importorskip("uvicorn")

TEXTS = {
    "chat template": (
        "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>",
        "<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n",
    ),
    "plain": ("Say hello.Hello!<|endoftext|>", "Say hello."),
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def expected() -> float:
    """The reward that both clients ask for."""
    scorer = Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})
    return scorer.score_item({"instruction": "Say hello.", "output": "Hello!"})


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """OpenRLHF's module, without the packages beside it, which need vLLM and DeepSpeed."""
    spec = find_spec("openrlhf")
    if spec is None or spec.origin is None:
        pytest.skip("not run: OpenRLHF is not here (pip install --no-deps openrlhf)")
    for name, folder in (("openrlhf", ""), ("openrlhf.utils", "utils")):
        module = ModuleType(name)
        module.__path__ = [str(Path(spec.origin).parent / folder)]
        monkeypatch.setitem(sys.modules, name, module)
    return importlib.import_module("openrlhf.utils.agent")


@pytest.mark.filterwarnings("ignore")  # those of OpenRLHF
@pytest.mark.parametrize("kind", TEXTS)
def test_openrlhf(kind: str, agent: Any, served: Served, expected: float) -> None:
    executor = agent.SingleTurnAgentExecutor(f"{served.url}/get_reward")
    query, prompt = TEXTS[kind]
    # Its method that asks a server. A trainer calls it with one query.
    (answer,) = asyncio.run(executor._fetch_rewards_via_http([query], [prompt], [None]))
    assert answer["rewards"] == pytest.approx([expected], abs=2e-5)
    assert answer["scores"] == answer["rewards"]
    assert answer["extra_logs"] == {}


CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)


@pytest.mark.filterwarnings("ignore")  # those of verl
def test_verl(served: Served, expected: float) -> None:
    if find_spec("verl") is None:
        pytest.skip("not run: verl is not here (pip install --no-deps verl tensordict omegaconf)")
    loop = importlib.import_module("verl.experimental.reward_loop.reward_loop")
    data_proto = importlib.import_module("verl.protocol").DataProto
    tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)
    # A worker as its own code makes it, without the vLLM that it would start.
    worker = object.__new__(loop.RewardLoopWorker)
    worker.reward_router_address = urlsplit(served.url).netloc
    worker.input_tokenizer = tokenizer
    worker.reward_model_tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)
    worker.reward_model_tokenizer.chat_template = CHAT_ML
    model = SimpleNamespace(
        enable=True, model_path="harmless", rollout=SimpleNamespace(name="vllm")
    )
    reward = SimpleNamespace(custom_reward_function=SimpleNamespace(path=None), reward_model=model)
    worker.config = SimpleNamespace(reward=reward)
    ids = torch.tensor([[*tokenizer.encode("Hello!"), tokenizer.eos_token_id]])
    prompt = np.empty(1, object)
    prompt[0] = [{"role": "user", "content": "Say hello."}]
    data = data_proto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={"raw_prompt": prompt},
    )
    (answer,) = asyncio.run(worker.compute_score_batch(data))
    assert answer["reward_score"] == pytest.approx(expected, abs=2e-5)
