"""Turn a Hugging Face GPT-2 reward checkpoint into a fused ONNX artifact, with a parity report."""

from harmless_export.exporter import export_checkpoint
from harmless_export.verify import verify_artifact

__all__ = ["export_checkpoint", "verify_artifact"]
