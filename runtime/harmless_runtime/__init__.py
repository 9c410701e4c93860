"""Turn rows into harmlessness scores with ONNX Runtime.

Scoring with an artifact needs neither torch nor transformers. Exporting a checkpoint needs both.
"""

import os

# Not imported from typing, which would delay the moment from which the command handles signals.
TYPE_CHECKING = False

# Set before onnxruntime is imported anywhere. Its packages send telemetry to Microsoft, on Linux
# too. Release 1.32 reads the first name, and microsoft/onnxruntime#29843 introduces the second.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

if TYPE_CHECKING:
    from harmless_runtime.helpful import Gpt2HelpfulScorer
    from harmless_runtime.reward import reward_function
    from harmless_runtime.scorer import Gpt2HarmlessScorer

__all__ = ["Gpt2HarmlessScorer", "Gpt2HelpfulScorer", "reward_function"]
__version__ = "0.7.0"


def __getattr__(name: str) -> object:
    # Deferred, so that `harmless --help` does not wait for onnxruntime.
    if name == "Gpt2HarmlessScorer":
        from harmless_runtime.scorer import Gpt2HarmlessScorer

        return Gpt2HarmlessScorer
    if name == "Gpt2HelpfulScorer":
        from harmless_runtime.helpful import Gpt2HelpfulScorer

        return Gpt2HelpfulScorer
    if name == "reward_function":
        from harmless_runtime.reward import reward_function

        return reward_function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
