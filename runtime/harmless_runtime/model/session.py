"""Turn batches of token ids into rewards, with an artifact loaded on one device."""

import logging
import math
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harmless_runtime.config import Provider
from harmless_runtime.errors import ConfigError, OutOfMemoryError, SessionError, one_line
from harmless_runtime.model.artifact import WEIGHTS, Artifact
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.cuda import no_warnings
from harmless_runtime.model.providers import NAMES, check_precision

logger = logging.getLogger(__name__)

# What the provider option `sdpa_kernel` allows in float16 and bfloat16: FlashAttention (1),
# memory-efficient attention (2) and unfused products (16), but not cuDNN's attention (8). cuDNN
# builds a plan for every new shape, in bfloat16 several times for the same one, and fails where it
# refuses a graph. Attention is 1 % of the arithmetic at 170 tokens and 7 % at 1,024.
_SDPA_KERNELS = "19"

# A CUDA graph replays a batch without launching its kernels one by one: for batches of up to so
# many tokens, each shape a graph. None until a GPU has shown where they win.
_GRAPH_TOKENS = 0

# onnxruntime has no error type for a lack of memory. These are the texts of its arena, of the
# arena's limit, of CUDA and of cuBLAS.
_OUT_OF_MEMORY = re.compile(
    "Failed to allocate memory|Available memory of|out of memory|ALLOC_FAILED|bad_alloc"
)


class Session:
    """An artifact loaded on one device, with buffers that are allocated once.

    Batches run one after the other in a thread of the session's own, while the caller prepares the
    next: a CUDA graph belongs to a thread, and so does a plan of cuDNN. I/O binding is used on
    every provider, so that the CPU runs the code that the GPU runs.

    Args:
        artifact: the opened artifact.
        provider: where to run, as `select_provider` returns it.
        device: the CUDA device's number.
        max_tokens: the most ids, padding included, that one run takes.
        gpu_memory: the most GPU memory to take for weights and activations, in GB; what CUDA takes
            for itself comes on top.

    Attributes:
        capacity: the most ids that a run is known to have room for; `max_tokens` at first.
        attention: the attention kernels that may run, as `sdpa_kernel` counts them; empty if
            onnxruntime chooses. They decide the last bits of a score.
        times: how long runs took, by shape.

    Raises:
        ConfigError: the weights alone exceed `gpu_memory`.
        OutOfMemoryError: the device has no room for the weights or the buffers.
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
        provider_options: dict[str, str] = {}
        if provider == "cuda":
            provider_options = _cuda_options(artifact, device, gpu_memory)
        name = NAMES[provider]
        try:
            with no_warnings():
                self._session = ort.InferenceSession(
                    artifact.model,
                    _session_options(provider),
                    providers=[(name, provider_options)],
                    # If it fell back, it would print on stdout, and its error would hide CUDA's.
                    enable_fallback=0,
                )
        except Exception as error:  # onnxruntime's own kinds have no public base
            if _OUT_OF_MEMORY.search(str(error)):
                gb = (artifact.folder / WEIGHTS).stat().st_size / 1e9
                raise OutOfMemoryError(
                    f"there is no memory for the {gb:.2f} GB of weights of {artifact.folder}: use "
                    "another --device, or end what else runs there"
                ) from error
            raise SessionError(f"cannot load {artifact.model}: {one_line(error)}") from error
        if name not in self._session.get_providers():
            raise SessionError(f"onnxruntime fell back from {name} on loading {artifact.model}")
        self.provider = provider
        self.capacity = max_tokens
        self.attention = provider_options.get("sdpa_kernel", "")
        self.times = ShapeTimes()
        self._place = (provider, device if provider == "cuda" else 0)
        allocate = ort.OrtValue.ortvalue_from_shape_and_type
        try:
            self._staging = np.zeros(max_tokens, np.int64)
            self._ids = allocate([max_tokens], np.int64, *self._place)
            self._logits = allocate([max_tokens, 1], np.float32, *self._place)
        except Exception as error:
            raise OutOfMemoryError(
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
    """How long runs took. The first two of each shape are kept apart: they may build plans for it.

    cuDNN's attention builds its plans in a shape's first run, and some again in the second.
    """

    def __init__(self) -> None:
        self._early: dict[tuple[int, ...], list[float]] = {}
        self._later_seconds = 0.0
        self._later_tokens = 0

    def add(self, shape: tuple[int, ...], seconds: float) -> None:
        """Count one run of a batch, `shape` being [batch_size, sequence_length]."""
        early = self._early.setdefault(shape, [])
        if len(early) < 2:
            early.append(seconds)
        else:
            self._later_seconds += seconds
            self._later_tokens += math.prod(shape)

    @property
    def shapes(self) -> int:
        """How many shapes have run."""
        return len(self._early)

    @property
    def planning_seconds(self) -> float:
        """The seconds of early runs beyond the pace of later ones; 0 if there are no later ones."""
        if not self._later_tokens:
            return 0.0
        pace = self._later_seconds / self._later_tokens
        return sum(
            max(0.0, seconds - pace * math.prod(shape))
            for shape, early in self._early.items()
            for seconds in early
        )


def _session_options(provider: Provider) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Fatal errors only: all others are raised as exceptions as well, and some of them, a batch
    # that memory has no room for, are an ordinary event.
    options.log_severity_level = 4
    options.intra_op_num_threads = usable_cores()
    if provider == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # A pattern is kept for every shape of a batch, and each is a block of memory of its own.
        # Without them, memory stops growing after the largest batch, whatever shapes follow.
        options.enable_mem_pattern = False
    return options


def _cuda_options(artifact: Artifact, device: int, gpu_memory: float | None) -> dict[str, str]:
    """Return the CUDA execution provider's options, by the names in its documentation."""
    # TF32, its default, rounds the factors of fp32 products to 10 bits, as fp16 does.
    options = {"device_id": str(device), "use_tf32": "0"}
    if artifact.manifest.precision in ("fp16", "bf16"):
        options["sdpa_kernel"] = _SDPA_KERNELS
    if _GRAPH_TOKENS:
        options["enable_cuda_graph"] = "1"
    if gpu_memory is not None:
        weights = (artifact.folder / WEIGHTS).stat().st_size
        limit = int(gpu_memory * 1e9)
        if limit <= weights:
            raise ConfigError(
                f"gpu_memory is {gpu_memory:g} GB, and the weights of {artifact.folder} alone take "
                f"{weights / 1e9:.2f} GB"
            )
        # The arena counts the weights against its limit. By default it doubles what it holds, up
        # to the limit and past what it needs.
        options |= {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}
    return options
