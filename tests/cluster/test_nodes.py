"""Several nodes of Ray on this machine, of which one dies in the middle of a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from shards import run_over, write_shards

from harmless_runtime.pipeline import score_files
from runs import cpu_engine

pytestmark = pytest.mark.slow

# In a process of its own, because a process can be in one Ray only.
PROGRAM = """
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from harmless_runtime.cluster.driver import score_on_ray
from harmless_runtime.cluster.connection import Resources
from harmless_runtime.config import make_config
from shards import run_over

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
*paths, out = map(Path, sys.argv[1:])
killed = []


def on_progress(tally):
    if tally.rows > 600 and not killed:  # the first piece is done
        killed.append(other)
        cluster.remove_node(other, allow_graceful=False)


config = make_config({"model": "demo", "provider": "cpu"})
score_on_ray(run_over(paths, out), config, Resources(workers=2, address="auto"), on_progress)
print("killed", len(killed))
"""


def test_a_machine_that_dies_costs_nothing_but_time(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    paths = write_shards(tmp_path / "rows", 6, 1200)
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    score_files(run_over(paths, one), cpu_engine())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths, many],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "killed 1" in done.stdout
    record = json.loads((tmp_path / "many.jsonl.run.json").read_bytes())
    assert len(record["about"]["pieces"]) == 12
    assert many.read_bytes() == one.read_bytes()
