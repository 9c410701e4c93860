"""Run batches of token ids with ONNX Runtime, with an artifact loaded on one device."""

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harmless_runtime.choices import Provider
from harmless_runtime.errors import ConfigError, OutOfMemoryError, SessionError, one_line
from harmless_runtime.model.artifact import WEIGHTS, Artifact
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.cuda import no_warnings
from harmless_runtime.model.runner import ShapeTimes

PROVIDER_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# ONNX Runtime has no error type for a lack of memory. These are the texts of its arena, of the
# arena's limit, of CUDA and of cuBLAS.
_OUT_OF_MEMORY = re.compile(
    "Failed to allocate memory|Available memory of|out of memory|ALLOC_FAILED|bad_alloc"
)


@dataclass(frozen=True)
class Target:
    """The device that a session runs on, and how it runs there.

    Attributes:
        provider: the execution provider, as `choose_provider` returns it.
        device: number of the CUDA device.
        gpu_memory: most GPU memory for weights and activations, in GB. CUDA's own memory comes on
            top.
        threads: threads of a CPU session. None means one thread for each core.
        sdpa_kernels: the sum of the attention kernels that are allowed in float16 and bfloat16, as
            the provider option `sdpa_kernel` numbers them: FlashAttention (1), memory-efficient
            attention (2) and unfused products (16). cuDNN's attention (8) is left out. cuDNN builds
            a plan for every new shape, in bfloat16 several plans. It fails if it refuses a graph.
        graph_tokens: use CUDA graphs, one for each shape, for batches of at most this many tokens.
            A CUDA graph replays a batch without launching its kernels one by one. 0 is off: it has
            not been measured on a GPU yet.
    """

    provider: Provider
    device: int = 0
    gpu_memory: float | None = None
    threads: int | None = None
    sdpa_kernels: str = "19"
    graph_tokens: int = 0


class Session:
    """An artifact loaded on one device, with buffers that are allocated once.

    It is the `Runner` of every engine. Batches run one after the other in a thread of the session's
    own, while the caller prepares the next: a CUDA graph belongs to a thread, and so does a plan of
    cuDNN. I/O binding is used on every provider, so that the CPU runs the code that the GPU runs.

    Args:
        artifact: the opened artifact.
        target: where to run it.
        max_tokens: the most ids, padding included, that one batch has.

    Raises:
        ConfigError: the weights alone exceed `gpu_memory`.
        OutOfMemoryError: the device has no room for the weights or the buffers.
        SessionError: ONNX Runtime cannot load the artifact on this provider.
    """

    def __init__(self, artifact: Artifact, target: Target, max_tokens: int) -> None:
        options = cuda_options(artifact, target) if target.provider == "cuda" else {}
        self.provider = target.provider
        self.attention = options.get("sdpa_kernel", "")
        self.capacity = max_tokens
        self.times = ShapeTimes()
        self._session = load_model(artifact, target, options)
        self._binding = self._session.io_binding()
        self._buffers = Buffers(target, max_tokens)
        self._graph_tokens = target.graph_tokens if target.provider == "cuda" else 0
        self._graphs: dict[tuple[int, ...], str] = {}
        self._thread = ThreadPoolExecutor(1, "session")

    def submit(self, ids: NDArray[np.int64]) -> Future[NDArray[np.float32]]:
        """Run a batch, as `Runner.submit` describes it."""
        return self._thread.submit(self._run, ids)

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if ids.size > self._buffers.size:
            raise SessionError(
                f"a batch has {ids.size} ids, but the session's buffers hold {self._buffers.size}"
            )
        start = time.perf_counter()
        try:
            self._buffers.bind(self._binding, ids)
            self._session.run_with_iobinding(self._binding, self._run_options(ids))
            rewards = self._buffers.rewards(len(ids))
        except Exception as error:  # ONNX Runtime's own error types have no public base class
            what = f"onnxruntime failed on {ids.shape}: {one_line(error)}"
            if is_out_of_memory(error):
                self.capacity = min(self.capacity, ids.size // 2)
                raise OutOfMemoryError(what) from error
            raise SessionError(what) from error
        self.times.add(ids.shape, time.perf_counter() - start)
        return rewards

    def _run_options(self, ids: NDArray[np.int64]) -> ort.RunOptions:
        """Name the CUDA graph of a small batch's shape. The numbers of graphs begin with 1."""
        graph = "-1"  # no graph
        if ids.size <= self._graph_tokens:
            graph = self._graphs.setdefault(ids.shape, str(len(self._graphs) + 1))
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph)
        return options


class Buffers:
    """Memory for the ids and the logits of one batch, allocated once on the device.

    Args:
        target: where to allocate it.
        size: the most ids, padding included, that a batch has.

    Raises:
        OutOfMemoryError: the device has no room for them.
    """

    def __init__(self, target: Target, size: int) -> None:
        self.size = size
        self._place = (target.provider, target.device if target.provider == "cuda" else 0)
        allocate = ort.OrtValue.ortvalue_from_shape_and_type
        try:
            self._staging = np.zeros(size, np.int64)
            self._ids = allocate([size], np.int64, *self._place)
            self._logits = allocate([size, 1], np.float32, *self._place)
        except Exception as error:
            raise OutOfMemoryError(
                f"there is no memory for batches of {size:,} tokens: {one_line(error)}",
                "lower `batch_size`, or end other processes that use this memory",
            ) from error

    def bind(self, binding: ort.IOBinding, ids: NDArray[np.int64]) -> None:
        """Copy ids [batch_size, sequence_length] to the device, and bind input and output."""
        self._staging[: ids.size] = ids.ravel()
        self._ids.update_inplace(self._staging)
        binding.bind_input(
            "input_ids", *self._place, np.int64, list(ids.shape), self._ids.data_ptr()
        )
        binding.bind_output(
            "logits", *self._place, np.float32, [len(ids), 1], self._logits.data_ptr()
        )

    def rewards(self, rows: int) -> NDArray[np.float32]:
        """Copy the rewards of the last run from the device: float32 [rows]."""
        rewards: NDArray[np.float32] = self._logits.numpy()[:rows, 0].copy()
        return rewards


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of ONNX Runtime says that memory ran out."""
    return _OUT_OF_MEMORY.search(str(error)) is not None


def load_model(artifact: Artifact, target: Target, options: dict[str, str]) -> ort.InferenceSession:
    """Load an artifact's graph and weights into ONNX Runtime.

    Args:
        artifact: the opened artifact.
        target: where to load it.
        options: the execution provider's options.

    Raises:
        OutOfMemoryError: the device has no room for the weights.
        SessionError: ONNX Runtime cannot load the artifact, or did not use this provider.
    """
    name = PROVIDER_NAMES[target.provider]
    try:
        with no_warnings():
            session = ort.InferenceSession(
                artifact.model,
                session_options(target),
                providers=[(name, options)],
                # A fallback would print on stdout, and its error would hide CUDA's.
                enable_fallback=0,
            )
    except Exception as error:  # ONNX Runtime's own error types have no public base class
        if is_out_of_memory(error):
            gb = (artifact.folder / WEIGHTS).stat().st_size / 1e9
            raise OutOfMemoryError(
                f"there is no memory for the {gb:.2f} GB of weights of {artifact.folder}",
                "end other processes that use this memory, or choose a smaller precision",
            ) from error
        raise SessionError(f"cannot load {artifact.model}: {one_line(error)}") from error
    if name not in session.get_providers():
        raise SessionError(f"onnxruntime fell back from {name} while loading {artifact.model}")
    return session


def session_options(target: Target) -> ort.SessionOptions:
    """Return ONNX Runtime's options for a session."""
    options = ort.SessionOptions()
    # Fatal errors only. All others are raised as exceptions as well, and some of them are ordinary
    # events, such as a batch for which memory has no room.
    options.log_severity_level = 4
    options.intra_op_num_threads = target.threads or usable_cores()
    if target.provider == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # A memory pattern is kept for every shape of a batch, and each is a block of memory of its
        # own. Without patterns, memory stops growing after the largest batch.
        options.enable_mem_pattern = False
    return options


def cuda_options(artifact: Artifact, target: Target) -> dict[str, str]:
    """Return the options of the CUDA execution provider, by the names in its documentation.

    Raises:
        ConfigError: the weights alone exceed `gpu_memory`.
    """
    # By default, TF32 rounds the factors of fp32 products to 10 bits, as fp16 does.
    options = {"device_id": str(target.device), "use_tf32": "0"}
    if artifact.manifest.precision in ("fp16", "bf16"):
        options["sdpa_kernel"] = target.sdpa_kernels
    if target.graph_tokens:
        options["enable_cuda_graph"] = "1"
    if target.gpu_memory is not None:
        weights = (artifact.folder / WEIGHTS).stat().st_size
        limit = int(target.gpu_memory * 1e9)
        if limit <= weights:
            raise ConfigError(
                f"gpu_memory is {target.gpu_memory:g} GB, but the weights of {artifact.folder} "
                f"alone take {weights / 1e9:.2f} GB",
                "raise `gpu_memory`",
            )
        # The arena counts the weights against its limit. By default it doubles what it holds, up
        # to the limit and beyond what it needs.
        options |= {"gpu_mem_limit": str(limit), "arena_extend_strategy": "kSameAsRequested"}
    return options
