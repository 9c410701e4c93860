"""A Hugging Face GPT-2 reward checkpoint to a fused ONNX artifact, with its parity report."""

from harmless_export.exporter import export_checkpoint
from harmless_export.verify import verify_artifact

__all__ = ["export_checkpoint", "verify_artifact"]
