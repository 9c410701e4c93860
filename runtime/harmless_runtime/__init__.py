"""Rows to harmlessness scores through ONNX Runtime; imports no torch and no transformers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmless_runtime.scorer import Gpt2HarmlessScorer

__all__ = ["Gpt2HarmlessScorer"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Deferred so that `harmless --help` does not wait for onnxruntime.
    if name == "Gpt2HarmlessScorer":
        from harmless_runtime.scorer import Gpt2HarmlessScorer

        return Gpt2HarmlessScorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
