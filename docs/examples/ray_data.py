"""Add scores to a data set in a pipeline of Ray Data, with a model in each of its actors.

    python docs/examples/ray_data.py rows.parquet scored/ --model demo --actors 2

With GPUs, `num_gpus=1` in place of `num_cpus` gives each actor one. On several machines, `--model`
is a folder that all of them reach, and `ray.init(address="auto")` finds them.
"""

import argparse

import ray
from ray.data import ActorPoolStrategy

from harmless_runtime.cluster import RewardScorer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("rows")
parser.add_argument("scored")
parser.add_argument("--model", default="artifact")
parser.add_argument("--actors", type=int, default=1)
args = parser.parse_args()

ray.init(include_dashboard=False)
rows = ray.data.read_parquet(args.rows)
scored = rows.map_batches(
    RewardScorer,
    fn_constructor_kwargs={"model": args.model},
    compute=ActorPoolStrategy(size=args.actors),
    num_cpus=1,  # threads of each actor's session
    batch_size=1024,
    batch_format="pyarrow",  # the others take columns of JSON for texts
)
scored.write_parquet(args.scored)
