"""Scorers that other processes use: pickled, inherited by fork, and named by caches."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets.fingerprint import Hasher

from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.choices import Provider
from harmless_runtime.errors import SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.own_engine import OwnEngine
from harmless_runtime.model.target import Target
from runs import cpu_engine

ROW = {"instruction": "How do I boil an egg?", "output": "Seven minutes in hot water."}
# Long enough for this machine, and short for a process that waits for ever.
LONG = 120


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a process of its own, as a user's script."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )


@pytest.fixture
def scorer(artifact: Artifact) -> Gpt2HarmlessScorer:
    return Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cpu"})


def test_a_copy_loads_the_model_anew(scorer: Gpt2HarmlessScorer) -> None:
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 2_000, "the configuration, and not the model"
    copy = pickle.loads(pickled)
    assert copy.config == scorer.config
    assert copy.score_item(ROW) == scorer.score_item(ROW)


def test_a_worker_finds_the_model_from_any_folder(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(artifact.folder.parent)
    scorer = Gpt2HarmlessScorer({"model": artifact.folder.name, "provider": "cpu"})
    pickled = pickle.dumps(scorer)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled).score_item(ROW) == scorer.score_item(ROW)


def test_spawned_workers(scorer: Gpt2HarmlessScorer) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(scorer.score_item, [ROW]) == [scorer.score_item(ROW)]


HASH = """
import sys
from datasets.fingerprint import Hasher
from harmless_runtime import Gpt2HarmlessScorer
scorer = Gpt2HarmlessScorer({"model": sys.argv[1], "provider": "cpu"})
scorer.score_item({"instruction": "a", "output": "b"})
print(Hasher.hash(scorer), Hasher.hash(lambda rows: scorer.score_batch(rows)))
"""


def test_caches_name_it_by_its_settings_and_its_artifact(artifact: Artifact) -> None:
    first, second = (run(HASH, artifact.folder).stdout for _ in range(2))
    assert first == second
    assert len(first.split()) == 2
    settings: dict[str, Any] = {"model": str(artifact.folder), "provider": "cpu"}
    assert Hasher.hash(Gpt2HarmlessScorer(settings)) == first.split()[0]
    others = [settings | {"max_length": 77}, settings | {"model": "demo"}]
    hashes = {Hasher.hash(Gpt2HarmlessScorer(other)) for other in others}
    assert len(hashes | {first.split()[0]}) == 3


# The scorer is a global variable, which the children inherit; and it has threads, because it has
# scored already. It used to hang here.
DATASETS = """
import sys
from datasets import Dataset
from harmless_runtime import Gpt2HarmlessScorer
scorer = Gpt2HarmlessScorer({"model": sys.argv[1], "provider": "cpu"})
rows = {"instruction": [f"Say {i}." for i in range(40)], "output": [f"{i}!" for i in range(40)]}
expected = scorer.score(rows["instruction"], rows["output"])
ds = Dataset.from_dict(rows).map(
    lambda batch: {"harmless_score": scorer.score_batch(batch)}, batched=True, num_proc=2
)
assert abs(expected - ds["harmless_score"]).max() < 1e-5
one = Dataset.from_dict(rows).map(lambda r: {"harmless_score": scorer.score_item(r)}, num_proc=2)
assert abs(expected - one["harmless_score"]).max() < 1e-5
print("the same")
"""


def test_datasets_with_several_processes(artifact: Artifact) -> None:
    done = run(DATASETS, artifact.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same\n"


# Both processes end in the ordinary way, which destroys all objects.
FORK = """
import os, sys
from harmless_runtime import Gpt2HarmlessScorer
scorer = Gpt2HarmlessScorer({"model": sys.argv[1], "provider": "cpu"})
row = {"instruction": "a", "output": "b"}
expected = scorer.score_item(row)
child = os.fork()
assert scorer.score_item(row) == expected
if child:
    assert os.waitpid(child, 0)[1] == 0
    grandchildren = [os.fork() for _ in range(1)]
    os.write(1, b"parent\\n" if grandchildren[0] else b"child\\n")  # at once, as print does not
    assert scorer.score_item(row) == expected
    if grandchildren[0]:
        assert os.waitpid(grandchildren[0], 0)[1] == 0
"""


def test_a_child_scores_and_ends_beside_its_parent(artifact: Artifact) -> None:
    done = run(FORK, artifact.folder)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["child", "parent"]


@pytest.mark.parametrize("provider", ["cuda", "openvino"])
def test_a_child_may_not_use_an_inherited_device(
    provider: Provider, scorer: Gpt2HarmlessScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = cpu_engine()
    monkeypatch.setattr(engine.runner, "target", Target(provider))
    inherited = OwnEngine(scorer.config, engine)
    assert inherited.get() is engine
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(SessionError, match=f'forked (.|\n)*on {provider}(.|\n)*"spawn"'):
        inherited.get()
