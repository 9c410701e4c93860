"""Score on several machines, with Ray."""

from harmless_runtime.cluster.reward_scorer import RewardScorer

__all__ = ["RewardScorer"]
