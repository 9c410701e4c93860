"""The client functions of trainers, as they are, get their rewards from a server."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from served import Served, serving

from harmless_runtime import Gpt2HarmlessScorer

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
def test_openrlhf(kind: str, agent: Any, served: Served) -> None:
    scorer = Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})
    expected = scorer.score_item({"instruction": "Say hello.", "output": "Hello!"})
    executor = agent.SingleTurnAgentExecutor(f"{served.url}/get_reward")
    query, prompt = TEXTS[kind]
    # Its method that asks a server. A trainer calls it with one query.
    (answer,) = asyncio.run(executor._fetch_rewards_via_http([query], [prompt], [None]))
    assert answer["rewards"] == pytest.approx([expected], abs=2e-5)
    assert answer["scores"] == answer["rewards"]
    assert answer["extra_logs"] == {}
