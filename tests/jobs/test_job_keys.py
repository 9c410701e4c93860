"""What a job may say, and what it means for where and on what its scorers run."""

from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.errors import ConfigError
from harmless_runtime.jobs.job import make_job


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scorers": []}, "lists no scorers"),
        ({"scorers": [{"name": "IFDScorer"}]}, "lists IFDScorer"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer"}] * 2}, "twice"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "batchsize": 8}]}, "did you mean batch_size"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "batch_size": 0}]}, "batch_size is 0"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "sub_name": "a/b"}]}, "sub_name is 'a/b'"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "sub_name": ""}]}, "sub_name is ''"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "sub_name": "x.rejects"}]}, "sub_name is"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "sub_name": "x_merged"}]}, "sub_name is"),
        ({"scorers": [{"name": "Gpt2HarmlessScorer", "sub_name": "pointwise_scores"}]}, "sub_name"),
        (
            {
                "scorers": [
                    {"name": f"Gpt2{n}Scorer", "sub_name": "x"} for n in ("Harmless", "Helpful")
                ]
            },
            "Gpt2HarmlessScorer and Gpt2HelpfulScorer would have the same output",
        ),
        ({"scorers": [{"name": ["a"]}]}, "lists ['a']"),
        ({"scorers": [{}]}, "lists a scorer without a name"),
        ({"input_path": "a\0b"}, "input_path holds a null character"),
        ({"scorers": "Gpt2HarmlessScorer"}, "scorers is 'Gpt2HarmlessScorer'"),
        ({"num_gpus": 4}, "did you mean num_gpu"),
        ({"num_gpu": "4"}, "num_gpu is '4'"),
        ({"resume": 1}, "resume is 1"),
        ({"output_path": "s3://bucket/out"}, "has to be a folder here"),
    ],
)
def test_jobs_that_are_refused(change: dict[str, Any], message: str) -> None:
    loaded = {"input_path": "r", "output_path": "o", "scorers": [{"name": "Gpt2HarmlessScorer"}]}
    make_job(Path("job.yaml"), loaded)
    with pytest.raises(ConfigError) as caught:
        make_job(Path("job.yaml"), loaded | change)
    assert "job.yaml" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("gpus", "per_job", "own_per_job", "name", "provider"),
    [
        (4, 1, None, "Gpt2HarmlessScorer_merged.jsonl", None),
        (4, 4, None, "Gpt2HarmlessScorer.jsonl", None),
        (4, 4, 2, "Gpt2HarmlessScorer_merged.jsonl", None),
        (1, 1, None, "Gpt2HarmlessScorer.jsonl", None),
        (0, 1, None, "Gpt2HarmlessScorer.jsonl", "cpu"),
        (4, 1, 0, "Gpt2HarmlessScorer.jsonl", "cpu"),
        (None, 1, None, "Gpt2HarmlessScorer.jsonl", None),
    ],
)
def test_where_scores_go_and_what_computes_them(
    gpus: int | None, per_job: int, own_per_job: int | None, name: str, provider: str | None
) -> None:
    entry: dict[str, Any] = {"name": "Gpt2HarmlessScorer", "num_gpu_per_job": own_per_job}
    loaded = {"input_path": "r", "output_path": "o", "scorers": [entry], "num_gpu": gpus}
    job = make_job(Path("job.yaml"), loaded | {"num_gpu_per_job": per_job})
    (own,) = job.entries
    assert own.place == Path("scorer_Gpt2HarmlessScorer", name)
    assert job.output(own) == Path("o/Gpt2HarmlessScorer.jsonl")
    assert own.settings.get("provider") == provider
