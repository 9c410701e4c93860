"""Configurations that are accepted, and those that are refused with key, value and range."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime import Gpt2HarmlessScorer, Gpt2HelpfulScorer
from harmless_runtime.choices import DEFAULT_MODEL
from harmless_runtime.config import load_config, make_config
from harmless_runtime.errors import ConfigError

SPECIFICATION = """\
name: Gpt2HarmlessScorer
model: Ray2333/gpt2-large-harmless-reward_model
batch_size: 8
max_length: 1024
"""


def test_the_specification_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(SPECIFICATION)
    config = load_config(tmp_path / "c.yaml", {"batch_size": None})
    assert (config.model, config.batch_size, config.max_length) == (DEFAULT_MODEL, 8, 1024)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("batch_size: 2\nmodel: x\nmax_length: 7\n")
    config = load_config(tmp_path / "c.yaml", {"batch_size": 3, "model": None})
    assert (config.batch_size, config.model, config.max_length) == (3, "x", 7)


def test_the_name_of_a_scorer_decides_its_model(tmp_path: Path) -> None:
    helpful = "Ray2333/gpt2-large-helpful-reward_model"
    assert make_config({"name": "Gpt2HelpfulScorer"}).model == helpful
    assert make_config({"name": "Gpt2HelpfulScorer", "model": "x"}).model == "x"
    (tmp_path / "c.yaml").write_text("name: Gpt2HelpfulScorer\nbatch_size: 4\n")
    assert load_config(tmp_path / "c.yaml", {}).model == helpful
    assert load_config(tmp_path / "c.yaml", {"model": "demo"}).model == "demo"
    demo = {"model": "demo", "provider": "cpu"}
    scorers = [kind(demo) for kind in (Gpt2HarmlessScorer, Gpt2HelpfulScorer)]
    row = {"instruction": "a", "output": "b"}
    assert scorers[0].score_item(row) == scorers[1].score_item(row)
    assert pickle.loads(pickle.dumps(scorers[1])).config.name == "Gpt2HelpfulScorer"
    with pytest.raises(ConfigError, match="name is Gpt2HarmlessScorer, and this is"):
        Gpt2HelpfulScorer({"name": "Gpt2HarmlessScorer", **demo})


def test_defaults() -> None:
    config = load_config(None, {})
    assert (config.model, config.batch_size, config.provider) == (DEFAULT_MODEL, 8, "auto")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"batch_size": 0}, ["batch_size", "0", "integer from 1 to 65536, or auto"]),
        ({"batch_size": "8"}, ["batch_size", "'8'", "integer"]),
        ({"batch_size": True}, ["batch_size", "True", "integer"]),
        ({"batch_size": 8.5}, ["batch_size", "8.5", "integer"]),
        ({"max_length": -1}, ["max_length", "-1", "greater than or equal to 1"]),
        ({"model": 3}, ["model", "3", "string"]),
        ({"model": ""}, ["model", "''", "at least 1 character"]),
        ({"name": "Other"}, ["name", "'Other'", "'Gpt2HarmlessScorer'"]),
        ({"provider": "gpu"}, ["provider", "'gpu'", "'auto', 'cuda', 'cpu' or 'openvino'"]),
        ({"precision": "fp64"}, ["precision", "'fp64'", "'fp32'"]),
        ({"batchsize": 8}, ["unknown key 'batchsize'", "batch_size"]),
        ({"batch_size": 0, "max_length": 0}, ["batch_size", "max_length"]),
    ],
)
def test_refusals_name_key_value_and_what_is_allowed(
    settings: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(settings)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "mapping"),
        ("3: 4\n", "mapping"),
        ("a: [\n", "not valid YAML"),
        ("model: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("model: 2020-13-45\n", "not valid YAML"),
        ("batch_size: !!int abc\n", "not valid YAML"),
        ("model: !!bool maybe\n", "not valid YAML"),
        ("model: !!int ''\n", "not valid YAML"),
        ("model: !!timestamp x\n", "not valid YAML"),
        ("scorers:\n  - name: Gpt2HarmlessScorer\n", "job with a list of scorers"),
    ],
)
def test_files_that_are_no_configuration(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.yaml", {})
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "missing.yaml", {})
