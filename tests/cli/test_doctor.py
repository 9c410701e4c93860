"""`harmless doctor` and `harmless models`: what is here, what works, and what is in the cache."""

import json
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.memory import usable_memory
from harmless_runtime.model.processor import this_processor
from processes import Harmless


def test_the_doctor_tells_versions_providers_and_speed(tmp_path: Path, harmless: Harmless) -> None:
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "200"}
    done = harmless("doctor", env=env)
    assert done.returncode == 0, done.stderr
    assert f"onnxruntime {version('onnxruntime')}" in done.stdout
    assert str(this_processor()) in done.stdout
    assert "works, in fp32" in done.stdout
    assert re.search(r"cuda +(works|.*CUDA)", done.stdout)
    speed = re.search(
        r"cpu +([\d,]+) tokens/s, [\d,.]+ rows/s \(fp32, a model of 1 million", done.stdout
    )
    assert speed
    assert int(speed[1].replace(",", "")) > 1000


def test_what_is_missing_is_told_with_how_to_install_it(harmless: Harmless) -> None:
    done = harmless("doctor", env=os.environ | {"COLUMNS": "200"})
    assert "onnxruntime-gpu missing (pip install '.[gpu]'" in done.stdout


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (8_000_000 * 1024, 6_000_000 * 1024)),
        ({"memory.max": "max\n", "memory.current": "5"}, (8_000_000 * 1024, 6_000_000 * 1024)),
        ({"memory.max": "3000000000\n", "memory.current": "1000000000"}, (3 * 10**9, 2 * 10**9)),
        ({"memory.max": "1000\n", "memory.current": "2000"}, (1000, 0)),
        ({"memory/memory.limit_in_bytes": "4000000000"}, (4 * 10**9, 4 * 10**9)),
    ],
)
def test_a_containers_memory(
    files: dict[str, str], expected: tuple[int, int], tmp_path: Path
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:  6000000 kB\n")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert usable_memory(tmp_path, meminfo) == expected
    assert usable_memory(tmp_path, tmp_path / "missing") is None


def test_exports_are_listed_and_removed(
    artifact: Artifact, tmp_path: Path, harmless: Harmless
) -> None:
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "200"}
    assert "there are no exports" in harmless("models", env=env).stderr
    cache = tmp_path / "harmless-scorer"
    for name in ("one-fp32-0.5.0", "two-int8-0.5.0"):
        shutil.copytree(artifact.folder, cache / name)
    (cache / "two-int8-0.5.0" / "scorer.json").write_text(json.dumps({"format_version": 99}))
    (cache / "other").mkdir()
    listed = harmless("models", env=env).stdout
    assert "one-fp32-0.5.0" in listed
    assert "fp32" in listed
    assert "damaged: " in listed
    refused = harmless("models", "--remove", "one-fp32-0.5.0", "--remove", "other", env=env)
    assert refused.returncode == 2
    assert "there is no export other" in refused.stderr
    assert (cache / "one-fp32-0.5.0").is_dir()
    removed = harmless("models", "--remove", "two-int8-0.5.0", env=env)
    assert removed.returncode == 0
    assert sorted(path.name for path in cache.iterdir()) == ["one-fp32-0.5.0", "other"]
