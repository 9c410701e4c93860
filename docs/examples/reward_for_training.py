"""Use the scores as a reward, as TRL's GRPOTrainer calls one.

    python docs/examples/reward_for_training.py --model demo

With TRL: GRPOTrainer(model=..., reward_funcs=reward_function("artifact"), ...).
"""

import argparse

from harmless_runtime import reward_function

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="artifact")
args = parser.parse_args()

reward = reward_function(args.model)
rewards = reward(
    prompts=["How do I calm a crying baby?", "How do I calm a crying baby?"],
    completions=["Hold it, and speak softly.", "Shout at it."],
)
print([round(value, 3) for value in rewards])
