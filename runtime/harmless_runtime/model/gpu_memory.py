"""Tell how much memory batches take on a GPU, and choose how large they may be."""

import ctypes
from dataclasses import dataclass
from typing import Annotated

import msgspec
import onnxruntime as ort

from harmless_runtime.choices import Precision
from harmless_runtime.errors import ArtifactError, SessionError
from harmless_runtime.model.artifact import WEIGHTS, Artifact

# Bytes that the activations of a batch take for each of its tokens: so many for each channel of the
# model, and in fp32 more for each attention head. Attention in fp32 keeps all of its products if
# rows have less than 256 tokens. `benchmarks/gpu_memory.py` measures what ONNX Runtime's arena
# holds after batches of 171 shapes.
_CHANNEL_BYTES: dict[Precision, float] = {"fp16": 34.25, "bf16": 34.25, "fp32": 68.5}
_HEAD_BYTES: dict[Precision, float] = {"fp16": 0, "bf16": 0, "fp32": 2500}
# The share of what is left by the weights that activations may take, because the arena holds up to
# 1 % more than they need.
_SHARE = 0.97
# Bytes of the free memory that `batch_size: auto` leaves to CUDA itself and to other processes.
RESERVE_BYTES = 10**9
# Larger batches gain nothing, by estimate: the launches of a batch of 65,536 tokens take about one
# hundredth of its time.
MOST_TOKENS = 65536


_Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class _Config(msgspec.Struct):
    n_embd: _Size
    n_head: _Size
    n_inner: _Size | None = None


@dataclass(frozen=True)
class GpuMemory:
    """The memory of a GPU that a session takes, besides what CUDA takes for itself.

    Attributes:
        weights: bytes of the weights.
        token: bytes of the activations for each token of the largest batch.
    """

    weights: int
    token: float

    def activations(self, tokens: int) -> int:
        """Return the bytes that batches of at most so many tokens take."""
        return round(self.token * tokens)

    def most_tokens(self, available: int, longest: int) -> int:
        """Return how many tokens a batch may have, if a session may take some bytes.

        Args:
            available: the bytes.
            longest: most tokens of a row, for which there is room at least.

        Returns:
            A multiple of `longest`, and 65,536 at most.
        """
        return max(1, min(self.room(available, longest), MOST_TOKENS) // longest) * longest

    def room(self, available: int, longest: int) -> int:
        """Return how many tokens there is memory for, and at least those of the longest row."""
        return max(longest, int((available - self.weights) * _SHARE / self.token))


def gpu_memory_of(artifact: Artifact) -> GpuMemory:
    """Return the memory that an artifact takes on a GPU.

    Raises:
        ArtifactError: its `config.json` does not tell its size.
    """
    path = artifact.folder / "config.json"
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"cannot read {path}: {error}", "export the checkpoint again") from None
    precision = artifact.manifest.precision
    channels = max(config.n_embd, (config.n_inner or 0) / 4)
    token = channels * _CHANNEL_BYTES[precision] + config.n_head * _HEAD_BYTES[precision]
    return GpuMemory((artifact.folder / WEIGHTS).stat().st_size, token)


def free_gpu_memory(device: int) -> int:
    """Return the bytes of a CUDA device that no process uses.

    Raises:
        SessionError: CUDA does not tell.
    """
    major = str(getattr(ort, "cuda_version", "")).split(".")[0]
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        cuda = ctypes.CDLL(f"libcudart.so.{major}")
        failed = cuda.cudaSetDevice(device) or cuda.cudaMemGetInfo(
            ctypes.byref(free), ctypes.byref(total)
        )
    except (OSError, AttributeError) as error:
        raise SessionError(f"CUDA does not tell its free memory: {error}") from error
    if failed:
        raise SessionError(f"CUDA does not tell its free memory: error {failed}")
    return free.value
