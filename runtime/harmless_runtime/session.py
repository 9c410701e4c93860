"""Batches of token ids to rewards, with an artifact loaded on one device."""

import logging
import math
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harmless_runtime.artifact import WEIGHTS, Artifact
from harmless_runtime.errors import ConfigError, OutOfMemoryError, SessionError, one_line
from harmless_runtime.providers import NAMES, Provider, check_precision, usable_cores

logger = logging.getLogger(__name__)

# A CUDA graph replays a batch without launching its kernels one by one: for batches of up to so
# many tokens, each shape a graph. None until a GPU has shown where they win.
_GRAPH_TOKENS = 0

# onnxruntime has no error of its own for it: its arena's sentences, its limit's, CUDA's, cuBLAS's.
_OUT_OF_MEMORY = re.compile(
    "Failed to allocate memory|Available memory of|out of memory|ALLOC_FAILED|bad_alloc"
)


class Session:
    """An artifact loaded on one device, with buffers that are allocated once.

    Batches run one after the other in a thread of the session's own, while the caller prepares the
    next: a cuDNN plan belongs to a thread, and so does a CUDA graph. I/O binding is used on every
    provider, so that the CPU runs the code that the GPU runs.

    Args:
        artifact: the opened artifact.
        provider: where to run, as `select_provider` returns it.
        device: the CUDA device's number.
        max_tokens: the most ids, padding included, that one run takes.
        gpu_memory: the most GPU memory to take for weights and activations, in GB; what CUDA takes
            for itself comes on top.

    Raises:
        ConfigError: the weights alone exceed `gpu_memory`.
        SessionError: the artifact's precision does not run there, or onnxruntime cannot load it.
    """

    def __init__(
        self,
        artifact: Artifact,
        provider: Provider,
        device: int,
        max_tokens: int,
        gpu_memory: float | None = None,
    ) -> None:
        check_precision(artifact.manifest.precision, provider, str(artifact.folder))
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = usable_cores()
        provider_options: dict[str, str] = {}
        if provider == "cuda":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
            provider_options = _cuda_options(artifact, device, gpu_memory)
        name = NAMES[provider]
        try:
            self._session = ort.InferenceSession(
                artifact.model,
                options,
                providers=[(name, provider_options)],
                # Falling back, it would print on stdout, and its own error would hide CUDA's.
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's own kinds have no public base
            raise SessionError(f"cannot load {artifact.model}: {one_line(error)}") from error
        if name not in self._session.get_providers():
            raise SessionError(f"onnxruntime fell back from {name} on loading {artifact.model}")
        if provider == "cuda" and not _cudnn_is_loaded():
            logger.warning(
                "cuDNN is not loaded, so attention runs without its fastest kernels: "
                "pip install '.[gpu]' in the project's folder brings it"
            )
        self.provider = provider
        self.capacity = max_tokens
        self.times = ShapeTimes()
        self._place = (provider, device if provider == "cuda" else 0)
        allocate = ort.OrtValue.ortvalue_from_shape_and_type
        try:
            self._staging = np.zeros(max_tokens, np.int64)
            self._ids = allocate([max_tokens], np.int64, *self._place)
            self._logits = allocate([max_tokens, 1], np.float32, *self._place)
        except Exception as error:
            raise SessionError(
                f"there is no memory for batches of {max_tokens:,} tokens ({one_line(error)}): use "
                "a lower --batch-size, or another --device"
            ) from error
        self._binding = self._session.io_binding()
        self._graphs: dict[tuple[int, ...], str] = {}
        self._thread = ThreadPoolExecutor(1, "session")

    def submit(self, ids: NDArray[np.int64]) -> Future[NDArray[np.float32]]:
        """Have a batch scored after those submitted before.

        Args:
            ids: int64 [batch_size, sequence_length], padded on the right, at most `capacity` in
                all. `capacity` is what was asked for, until memory runs out.

        Returns:
            The rewards to come, float32 [batch_size]. Instead of them it may raise SessionError:
            onnxruntime failed, or the batch is larger than the buffers; or OutOfMemoryError: it
            can be tried again in parts, and `capacity` is now half the batch.
        """
        return self._thread.submit(self._run, ids)

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if ids.size > self._staging.size:
            raise SessionError(f"a batch of {ids.size} tokens exceeds {self._staging.size}")
        start = time.perf_counter()
        self._staging[: ids.size] = ids.ravel()
        try:
            self._ids.update_inplace(self._staging)
            self._binding.bind_input(
                "input_ids", *self._place, np.int64, list(ids.shape), self._ids.data_ptr()
            )
            self._binding.bind_output(
                "logits", *self._place, np.float32, [len(ids), 1], self._logits.data_ptr()
            )
            self._session.run_with_iobinding(self._binding, self._run_options(ids))
            rewards: NDArray[np.float32] = self._logits.numpy()[: len(ids), 0].copy()
        except Exception as error:  # onnxruntime's own kinds have no public base
            what = f"onnxruntime failed on {ids.shape}: {one_line(error)}"
            if _OUT_OF_MEMORY.search(str(error)):
                self.capacity = min(self.capacity, ids.size // 2)
                raise OutOfMemoryError(what) from error
            raise SessionError(what) from error
        self.times.add(ids.shape, time.perf_counter() - start)
        return rewards

    def _run_options(self, ids: NDArray[np.int64]) -> ort.RunOptions:
        """With the CUDA graph of a small batch's shape, by a number of its own from 1 on."""
        graph = "-1"
        if self.provider == "cuda" and ids.size <= _GRAPH_TOKENS:
            graph = self._graphs.setdefault(ids.shape, str(len(self._graphs) + 1))
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph)
        return options


class ShapeTimes:
    """How long runs took, the first of each shape apart: it may build plans for that shape."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, ...], float] = {}
        self._again_seconds = 0.0
        self._again_tokens = 0

    def add(self, shape: tuple[int, ...], seconds: float) -> None:
        """Count one run of a batch, `shape` being [batch_size, sequence_length]."""
        if shape in self._first:
            self._again_seconds += seconds
            self._again_tokens += math.prod(shape)
        else:
            self._first[shape] = seconds

    @property
    def shapes(self) -> int:
        """How many shapes have run."""
        return len(self._first)

    @property
    def planning_seconds(self) -> float:
        """What first runs took beyond the pace of the later ones; 0 where there are none."""
        if not self._again_tokens:
            return 0.0
        pace = self._again_seconds / self._again_tokens
        return sum(max(0.0, t - pace * math.prod(shape)) for shape, t in self._first.items())


def _cuda_options(artifact: Artifact, device: int, gpu_memory: float | None) -> dict[str, str]:
    """The CUDA execution provider's options, as its documentation names them."""
    # TF32, its default, rounds what fp32 products multiply to 10 bits, as fp16 does.
    options = {"device_id": str(device), "use_tf32": "0"}
    if _GRAPH_TOKENS:
        options["enable_cuda_graph"] = "1"
    if gpu_memory is not None:
        # The limit is that of the arena, and the weights are allocated beside it.
        weights = (artifact.folder / WEIGHTS).stat().st_size
        limit = int(gpu_memory * 1e9) - weights
        if limit <= 0:
            raise ConfigError(
                f"gpu_memory is {gpu_memory:g} GB, and the weights of {artifact.folder} alone take "
                f"{weights / 1e9:.2f} GB"
            )
        # By default the arena doubles what it holds, up to the limit and past what it needs.
        options |= {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}
    return options


def _cudnn_is_loaded(maps: Path = Path("/proc/self/maps")) -> bool:
    """Tell whether this process has loaded cuDNN; where that cannot be told, that it has."""
    try:
        return "libcudnn" in maps.read_text()
    except OSError:
        return True
