"""Run batches of token ids with ONNX Runtime, with an artifact loaded on one device."""

import ctypes
import os
import re
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harmless_runtime.errors import ConfigError, OutOfMemoryError, SessionError, one_line
from harmless_runtime.model import openvino
from harmless_runtime.model.artifact import WEIGHTS, Artifact
from harmless_runtime.model.buffers import Buffers
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.cuda import no_warnings
from harmless_runtime.model.runner import ShapeTimes
from harmless_runtime.model.target import Target

PROVIDER_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": openvino.NAME,
}

# ONNX Runtime has no error type for a lack of memory. These are the texts of its arena, of the
# arena's limit, of CUDA and of cuBLAS.
_OUT_OF_MEMORY = re.compile(
    "Failed to allocate memory|Available memory of|out of memory|ALLOC_FAILED|bad_alloc"
)


class Session:
    """An artifact loaded on one device, with buffers that are allocated once.

    It is the `Runner` of every engine. Batches run in threads of the session's own, while the
    caller prepares the next. On CUDA it is one thread, because a CUDA graph belongs to a thread,
    and so does a plan of cuDNN. On a CPU there may be several threads, which share the weights. I/O
    binding is used on every provider, so that the CPU runs the code that the GPU runs.

    Args:
        artifact: the opened artifact.
        target: where to run it.
        max_tokens: the most ids, padding included, that one batch has.
        beside: another session, whose threads run the batches of this one as well. So none of them
            runs while this one captures a CUDA graph, which CUDA would refuse.

    Raises:
        ConfigError: the weights alone exceed `gpu_memory`.
        OutOfMemoryError: the device has no room for the weights or the buffers.
        SessionError: ONNX Runtime cannot load the artifact on this provider.
    """

    def __init__(
        self,
        artifact: Artifact,
        target: Target,
        max_tokens: int,
        beside: "Session | None" = None,
    ) -> None:
        options = cuda_options(artifact, target) if target.provider == "cuda" else {}
        self.target = target
        self.attention = options.get("sdpa_kernel", "")
        self.capacity = max_tokens
        self.times = ShapeTimes()
        self._buffer_size = max_tokens
        self._graph_tokens = target.graph_tokens if target.provider == "cuda" else 0
        self._graphs: dict[tuple[int, ...], str] = {}
        session = load_model(artifact, target, options)
        self._free: SimpleQueue[Buffers] = SimpleQueue()
        for _ in range(target.streams):
            self._free.put(Buffers(session, target, max_tokens))
        self._options: dict[Future[NDArray[np.float32]], ort.RunOptions] = {}
        self.threads: ThreadPoolExecutor = (
            ThreadPoolExecutor(target.streams, "session") if beside is None else beside.threads
        )
        if target.provider == "openvino":
            # A child that `fork` made would hang at its end, even if it never uses the session.
            own = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: keep_for_ever(own()))

    def submit(self, ids: NDArray[np.int64]) -> Future[NDArray[np.float32]]:
        """Run a batch, as `Runner.submit` describes it."""
        options = ort.RunOptions()
        future = self.threads.submit(self._run, ids, options)
        self._options[future] = options
        future.add_done_callback(self._options.pop)
        return future

    def cancel(self, future: Future[NDArray[np.float32]]) -> None:
        """End a batch, as `Runner.cancel` describes it."""
        # A GPU is left to finish its batch, which takes less than a second.
        if not future.cancel() and self.target.provider != "cuda":
            options = self._options.get(future)
            if options is not None:
                options.terminate = True

    def _run(self, ids: NDArray[np.int64], options: ort.RunOptions) -> NDArray[np.float32]:
        if ids.size > self._buffer_size:
            raise SessionError(
                f"a batch has {ids.size} ids, but the session's buffers hold {self._buffer_size}"
            )
        options.add_run_config_entry("gpu_graph_id", self._graph(ids))
        buffers = self._free.get()
        start = time.perf_counter()
        try:
            rewards = buffers.run(ids, options)
        except Exception as error:  # ONNX Runtime's own error types have no public base class
            what = f"onnxruntime failed on {ids.shape}: {one_line(error)}"
            if is_out_of_memory(error):
                self.capacity = min(self.capacity, ids.size // 2)
                raise OutOfMemoryError(what) from error
            raise SessionError(what) from error
        finally:
            self._free.put(buffers)
        self.times.add(ids.shape, time.perf_counter() - start)
        return rewards

    def _graph(self, ids: NDArray[np.int64]) -> str:
        """Return the number of the CUDA graph of a small batch's shape. Numbers begin with 1."""
        if ids.size > self._graph_tokens:
            return "-1"  # no graph
        return self._graphs.setdefault(ids.shape, str(len(self._graphs) + 1))


def keep_for_ever(inherited: object) -> None:
    """Keep what a process inherited by `fork`: to destroy a session waits for its threads."""
    # One reference more than there are.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


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
                session_options(artifact, target),
                # Plug-ins are named by the options instead.
                providers=None if target.provider == "openvino" else [(name, options)],
                # A fallback would print on stdout, and its error would hide CUDA's.
                enable_fallback=0,
            )
    except SessionError:
        raise
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


def session_options(artifact: Artifact, target: Target) -> ort.SessionOptions:
    """Return ONNX Runtime's options for a session.

    Raises:
        SessionError: OpenVINO cannot run the artifact here.
    """
    options = ort.SessionOptions()
    # Fatal errors only. All others are raised as exceptions as well, and some of them are ordinary
    # events, such as a batch for which memory has no room.
    options.log_severity_level = 4
    # Each batch has a thread of its own, and all of them share the other threads.
    threads = target.threads or usable_cores()
    options.intra_op_num_threads = max(1, threads - target.streams + 1)
    if target.provider == "cuda":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        # A memory pattern is kept for every shape of a batch, and each is a block of memory of its
        # own. Without patterns, memory stops growing after the largest batch.
        options.enable_mem_pattern = False
    if target.provider == "openvino":
        openvino.add_openvino(options, artifact, target)
    return options


def cuda_options(artifact: Artifact, target: Target) -> dict[str, str]:
    """Return the options of the CUDA execution provider, by the names in its documentation.

    Raises:
        ConfigError: the weights alone exceed `gpu_memory`.
    """
    # By default, TF32 rounds the factors of fp32 products to 10 bits, as fp16 does.
    options = {
        "device_id": str(target.device),
        "use_tf32": "0",
        # By default the arena doubles what it holds, beyond what it needs.
        "arena_extend_strategy": "kSameAsRequested",
    }
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
        options["gpu_mem_limit"] = str(limit)  # against which the arena counts the weights, too
    return options
