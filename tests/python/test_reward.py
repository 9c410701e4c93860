"""The reward function, called as TRL's trainers call it, compared with PyTorch."""

import inspect
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from harmless_export.reference import pytorch_scores
from harmless_runtime import Gpt2HarmlessScorer, reward_function
from harmless_runtime.errors import InputError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.rows.prompt import question_and_answer

Reward = Callable[..., list[float | None]]


@pytest.fixture(scope="module")
def reward(artifact: Artifact) -> Reward:
    return reward_function(str(artifact.folder), provider="cpu")


def called(reward: Reward, prompts: list[Any], completions: list[Any]) -> list[float | None]:
    """Call a reward function as TRL 1.16 does."""
    return reward(
        prompts=prompts,
        completions=completions,
        completion_ids=[[1]] * len(prompts),
        other=["a column"] * len(prompts),
        trainer_state=object(),
        log_extra=print,
        log_metric=print,
    )


def test_strings_messages_and_dialogues(reward: Reward, checkpoint: Path) -> None:
    dialogue = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye\n\nAssistant:"
    prompts: list[Any] = [
        "Say hello.",
        [{"role": "user", "content": "Say hello."}],
        dialogue,
        dialogue + " ",
        "Human: not such a dialogue\n\nAssistant:",
    ]
    completions: list[Any] = [
        "Hello!",
        [{"role": "assistant", "content": "Hello!"}],
        " Good bye.\n\nAssistant: Again.",
        "bye.",
        "Hello!",
    ]
    pairs = [
        question_and_answer("Say hello.", "", "Hello!"),
        question_and_answer("Say hello.", "", "Hello!"),
        (dialogue, " Good bye.\n\nAssistant: Again."),
        (dialogue, " bye."),
        question_and_answer("Human: not such a dialogue\n\nAssistant:", "", "Hello!"),
    ]
    rewards = called(reward, prompts, completions)
    assert all(type(value) is float for value in rewards)
    np.testing.assert_allclose(
        np.array(rewards, float), pytorch_scores(checkpoint, pairs, 1024), atol=2e-4
    )


@pytest.mark.parametrize(
    "as_column",
    [
        np.array,
        pd.Series,
        pl.Series,
        pa.array,
        lambda texts: pa.chunked_array([texts[:1], texts[1:]], pa.string()),
        lambda texts: list(pa.array(texts)),
    ],
)
def test_columns_of_tables_have_the_rewards_of_lists(
    as_column: Callable[[list[Any]], Any], reward: Reward
) -> None:
    prompts = ["\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye\n\nAssistant:", "Bye", "No"]
    completions = [" Good bye.", "Good bye.", None]
    expected = reward(prompts, completions)
    assert [value is None for value in expected] == [False, False, True]
    assert reward(as_column(prompts), as_column(completions)) == expected


def test_a_copy_gives_the_same_rewards(reward: Reward) -> None:
    pickled = pickle.dumps(reward)
    assert len(pickled) < 2_000, "the configuration, and not the model"
    copy = pickle.loads(pickled)
    assert copy.__name__ == "harmless_reward"
    assert called(copy, ["Hi", "Hi"], ["Hello!", None]) == called(
        reward, ["Hi", "Hi"], ["Hello!", None]
    )


def test_a_row_that_cannot_be_scored_has_no_reward(
    reward: Reward, caplog: pytest.LogCaptureFixture
) -> None:
    user = [{"role": "user", "content": "What time is it?"}]
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "clock"}]}
    image = {"role": "assistant", "content": [{"type": "image"}]}
    answer = {"role": "assistant", "content": "Noon."}
    rewards = called(reward, [user] * 4, [[call], [answer], [image], []])
    assert [value is None for value in rewards] == [True, False, True, True]
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "item 0: the conversation holds a tool call" in told[0].message


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        (["a", "b"], ["c"], "the columns have different lengths: prompts 2, completions 1"),
        ("a", ["c"], "prompts is a str, and has to be a list"),
        (["a"], [3], "item 0: Expected `str | object | array`, got `int` - at `$.completions`"),
    ],
)
def test_errors_have_the_callers_words(
    prompts: Any, completions: Any, message: str, reward: Reward, caplog: pytest.LogCaptureFixture
) -> None:
    if message.startswith("item"):
        assert called(reward, prompts, completions) == [None]
        assert message in caplog.text
    else:
        with pytest.raises(InputError, match=message):
            called(reward, prompts, completions)


def test_trl_can_name_and_call_it(reward: Reward) -> None:
    assert reward.__name__ == "harmless_reward"
    assert not inspect.iscoroutinefunction(reward)
    assert called(reward, [], []) == []


@pytest.mark.parametrize(
    ("environment", "config", "device"),
    [
        ({}, {}, 0),
        ({"LOCAL_RANK": "3"}, {}, 3),
        ({"LOCAL_RANK": "3"}, {"device": 1}, 1),
        ({"LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "2"}, {}, 0),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "2,3"}, {}, 1),
    ],
)
def test_each_process_has_its_own_device(
    environment: dict[str, str],
    config: dict[str, int],
    device: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOCAL_RANK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[int] = []
    loaded = Gpt2HarmlessScorer.__init__

    def note(self: Gpt2HarmlessScorer, settings: dict[str, Any]) -> None:
        asked.append(settings["device"])
        loaded(self, settings)

    monkeypatch.setattr(Gpt2HarmlessScorer, "__init__", note)
    reward_function("demo", provider="cpu", **config)
    assert asked == [device]
