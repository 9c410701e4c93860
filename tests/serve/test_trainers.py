"""The client functions of trainers, as they are, get their rewards from a server."""

import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

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


# More clients than rows may wait.
CLIENTS = 50


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Served]:
    """Run a server whose queue is full at once."""
    with serving(tmp_path, "--max-waiting", "2") as server:
        yield server


@pytest.fixture(scope="module")
def many() -> list[float]:
    """The rewards that many clients ask for."""
    scorer = Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})
    rows = [{"instruction": "Count.", "output": f"{n} " * 50} for n in range(CLIENTS)]
    return scorer.score_batch(rows)


@pytest.mark.filterwarnings("ignore")  # those of OpenRLHF
def test_many_of_openrlhf_are_held(agent: Any, small: Served, many: list[float]) -> None:
    executor = agent.SingleTurnAgentExecutor(f"{small.url}/get_reward")

    async def ask() -> list[Any]:
        asked = [([f"Count.{f'{n} ' * 50}"], ["Count."], [None]) for n in range(CLIENTS)]
        return await asyncio.gather(*(executor._fetch_rewards_via_http(*each) for each in asked))

    answers = asyncio.run(ask())
    assert [answer["rewards"][0] for (answer,) in answers] == pytest.approx(many, abs=2e-5)
    assert statuses(small, "/get_reward") == {"200": CLIENTS}


def statuses(served: Served, path: str) -> dict[str, float]:
    """Return how many requests to a path were answered with each status."""
    text = urlopen(f"{served.url}/metrics").read().decode()
    pattern = rf'^harmless_requests_total{{path="{path}",status="(\d+)"}} (\S+)$'
    return {status: float(n) for status, n in re.findall(pattern, text, re.MULTILINE)}


CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)


@pytest.fixture
def worker() -> Any:
    """verl's worker as its own code makes it, without the vLLM that it would start."""
    if find_spec("verl") is None:
        pytest.skip("not run: verl is not here (pip install --no-deps verl tensordict omegaconf)")
    loop = importlib.import_module("verl.experimental.reward_loop.reward_loop")
    worker = object.__new__(loop.RewardLoopWorker)
    worker.input_tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)
    worker.reward_model_tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled.MODEL)
    worker.reward_model_tokenizer.chat_template = CHAT_ML
    model = SimpleNamespace(
        enable=True, model_path="harmless", rollout=SimpleNamespace(name="vllm")
    )
    reward = SimpleNamespace(custom_reward_function=SimpleNamespace(path=None), reward_model=model)
    worker.config = SimpleNamespace(reward=reward)
    return worker


def rewards_of_verl(worker: Any, served: Served, prompt: str, responses: list[str]) -> list[float]:
    worker.reward_router_address = urlsplit(served.url).netloc
    tokenizer = worker.input_tokenizer
    texts = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in responses]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones(len(text), dtype=torch.long) for text in texts], batch_first=True
    )
    prompts = np.empty(len(responses), object)
    prompts[:] = [[{"role": "user", "content": prompt}] for _ in responses]
    data = importlib.import_module("verl.protocol").DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": mask}, non_tensors={"raw_prompt": prompts}
    )
    answers = asyncio.run(worker.compute_score_batch(data))
    return [answer["reward_score"] for answer in answers]


@pytest.mark.filterwarnings("ignore")  # those of verl
def test_verl(worker: Any, served: Served, expected: float) -> None:
    rewards = rewards_of_verl(worker, served, "Say hello.", ["Hello!"])
    assert rewards == pytest.approx([expected], abs=2e-5)


@pytest.mark.filterwarnings("ignore")  # those of verl
def test_many_of_verl_are_held(worker: Any, small: Served, many: list[float]) -> None:
    responses = [f"{n} " * 50 for n in range(CLIENTS)]
    rewards = rewards_of_verl(worker, small, "Count.", responses)
    assert rewards == pytest.approx(many, abs=2e-5)
    assert statuses(small, "/classify") == {"200": CLIENTS}
