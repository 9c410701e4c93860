"""`RewardScorer` alone, and in the actors of a real Ray."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.cluster import RewardScorer
from harmless_runtime.errors import ConfigError, InputError

EXAMPLE = Path(__file__).parents[2] / "docs/examples/ray_data.py"
COLUMNS: dict[str, list[Any]] = {
    "prompt": ["Hi"] * 6,
    "response": ["Hello!", "Go away.", "", "one two three", "x" * 3000, "ü"],
    "id": [5, 4, 3, 2, 1, 0],
}


@pytest.fixture(scope="module")
def truth() -> np.ndarray[Any, np.dtype[np.float32]]:
    scorer = Gpt2HarmlessScorer({"model": "demo"})
    return scorer.score(COLUMNS["prompt"], COLUMNS["response"])


@pytest.mark.parametrize("kind", ["numpy", "pandas", "pyarrow"])
def test_every_form_of_batch_gets_a_column(kind: str, truth: Any) -> None:
    batches: dict[str, Any] = {
        "numpy": {name: np.array(values) for name, values in COLUMNS.items()},
        "pandas": pd.DataFrame(COLUMNS),
        "pyarrow": pa.table(COLUMNS),
    }
    batch = batches[kind]
    scorer = RewardScorer("demo")
    scored = scorer(batch)
    assert type(scored) is type(batch)
    names = list(scored) if kind != "pyarrow" else scored.column_names
    assert names == [*COLUMNS, "harmless_score"]
    assert np.allclose(np.asarray(scored["harmless_score"]), truth, atol=1e-5)
    assert np.asarray(scored["harmless_score"]).dtype == np.float32
    again = scorer(scored)  # a column that is there is replaced
    assert len(list(again) if kind != "pyarrow" else again.column_names) == 4


def test_rows_that_cannot_be_scored() -> None:
    batch = {"prompt": ["Hi", None], "response": ["a", "b"]}
    scores = RewardScorer("demo", column="reward")(batch)["reward"]
    assert np.isnan(scores).tolist() == [False, True]
    with pytest.raises(InputError):
        RewardScorer("demo", on_error="raise")(batch)
    with pytest.raises(ConfigError, match="batch_format"):
        RewardScorer("demo")([{"prompt": "Hi", "response": "a"}])


@pytest.mark.slow
def test_the_example_scores_a_data_set_of_ray(tmp_path: Path) -> None:
    """It runs in a process and a Ray of its own."""
    pytest.importorskip("ray")
    rows = [{"id": i, "instruction": f"ask {i}", "output": "word " * (i % 40)} for i in range(2000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    paths = tmp_path / "rows.parquet", tmp_path / "scored"
    done = subprocess.run(
        [sys.executable, EXAMPLE, *paths, "--model", "demo"],
        capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"RAY_ADDRESS": "local"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(tmp_path / "scored").sort_by("id")
    assert table.column_names == ["id", "instruction", "output", "harmless_score"]
    expected = Gpt2HarmlessScorer({"model": "demo"}).score_batch(rows)
    assert np.allclose(table["harmless_score"].to_numpy(), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_actor_has_as_many_threads_as_it_was_given_cores(ray: Any) -> None:
    def cores() -> int:
        from harmless_runtime.model.cores import usable_cores

        return usable_cores()

    assert ray.get(ray.remote(num_cpus=1)(cores).remote()) == 1
