"""Several nodes of Ray on this machine, of which one may die in the middle of a run."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
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
kill, parts, *paths, out = sys.argv[1:]
paths, out = [Path(path) for path in paths], Path(out)
killed = []


def on_progress(tally):
    if kill == "kill" and tally.rows > 600 and not killed:  # the first piece is done
        killed.append(other)
        cluster.remove_node(other, allow_graceful=False)


config = make_config({"model": "demo", "provider": "cpu"})
run = run_over(paths, out, int(parts))
score_on_ray(run, config, Resources(workers=2, address="auto"), on_progress)
print("killed", len(killed))
"""


def score_on_nodes(paths: list[Path], out: Path, kill: str = "", parts: int = 2) -> str:
    """Score with two workers on two nodes; return what the program prints."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kill, str(parts), *paths, out],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_machine_that_dies_costs_nothing_but_time(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    paths = write_shards(tmp_path / "rows", 6, 1200)
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    score_files(run_over(paths, one), cpu_engine())
    assert "killed 1" in score_on_nodes(paths, many, "kill")
    record = json.loads((tmp_path / "many.jsonl.run.json").read_bytes())
    assert len(record["about"]["pieces"]) == 12
    assert many.read_bytes() == one.read_bytes()


def test_100_000_rows_of_every_length_and_several_forms(tmp_path: Path) -> None:
    """Lines and row groups are cut, a compressed file is not."""
    pytest.importorskip("ray")
    (lines, packed, table) = write_shards(tmp_path / "rows", 3, 33_334)
    packed.with_suffix(".jsonl.gz").write_bytes(gzip.compress(packed.read_bytes(), 1))
    rows = [json.loads(line) for line in table.read_bytes().splitlines() if line != b"{oops"]
    parquet.write_table(
        pa.Table.from_pylist(rows), table.with_suffix(".parquet"), row_group_size=5000
    )
    paths = [lines, packed.with_suffix(".jsonl.gz"), table.with_suffix(".parquet")]
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    total = score_files(run_over(paths, one, 40), cpu_engine()).tally
    assert total.rows + total.rejected > 99_000
    score_on_nodes(paths, many, parts=40)
    assert many.read_bytes() == one.read_bytes()
    rejects = tmp_path / "one.rejects.jsonl", tmp_path / "many.rejects.jsonl"
    assert rejects[0].read_bytes() == rejects[1].read_bytes()
    record = json.loads((tmp_path / "many.jsonl.run.json").read_bytes())
    assert len(record["about"]["pieces"]) >= 43
