"""Batches of token ids to rewards, with an artifact loaded on one device."""

import threading

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harmless_runtime.artifact import Artifact
from harmless_runtime.errors import SessionError, one_line
from harmless_runtime.providers import NAMES, Provider, check_precision, usable_cores


class Session:
    """An artifact loaded on one device, with buffers that are allocated once.

    I/O binding is used on every provider, so that the CPU runs the code that the GPU runs.

    Args:
        artifact: the opened artifact.
        provider: where to run, as `select_provider` returns it.
        device: the CUDA device's number.
        max_tokens: the most ids, padding included, that one run takes.

    Raises:
        SessionError: the artifact's precision does not run there, or onnxruntime cannot load it.
    """

    def __init__(
        self, artifact: Artifact, provider: Provider, device: int, max_tokens: int
    ) -> None:
        check_precision(artifact.manifest.precision, provider, str(artifact.folder))
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = usable_cores()
        provider_options: dict[str, str] = {}
        if provider == "cuda":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
            provider_options["device_id"] = str(device)
        name = NAMES[provider]
        try:
            self._session = ort.InferenceSession(
                artifact.model, options, providers=[(name, provider_options)]
            )
        except Exception as error:  # onnxruntime's own kinds have no public base
            raise SessionError(f"cannot load {artifact.model}: {one_line(error)}") from error
        self._session.disable_fallback()
        if name not in self._session.get_providers():
            raise SessionError(f"onnxruntime fell back from {name} on loading {artifact.model}")
        self.provider = provider
        self._device = device if provider == "cuda" else 0
        self._staging = np.zeros(max_tokens, np.int64)
        self._ids = ort.OrtValue.ortvalue_from_shape_and_type(
            [max_tokens], np.int64, provider, self._device
        )
        self._logits = np.zeros(max_tokens, np.float32)
        self._binding = self._session.io_binding()
        self._lock = threading.Lock()

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score a batch; threads that share a session take turns.

        Args:
            ids: int64 [batch_size, sequence_length], padded on the right, at most `max_tokens`.

        Returns:
            The rewards, float32 [batch_size], in a new array.

        Raises:
            SessionError: onnxruntime failed, or the batch is larger than the buffers.
        """
        rows = len(ids)
        if ids.size > self._staging.size:
            raise SessionError(f"a batch of {ids.size} tokens exceeds {self._staging.size}")
        with self._lock:
            return self._run(ids, rows)

    def _run(self, ids: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
        self._staging[: ids.size] = ids.ravel()
        try:
            self._ids.update_inplace(self._staging)
            self._binding.bind_input(
                "input_ids",
                self.provider,
                self._device,
                np.int64,
                list(ids.shape),
                self._ids.data_ptr(),
            )
            self._binding.bind_output(
                "logits", "cpu", 0, np.float32, [rows, 1], self._logits.ctypes.data
            )
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's own kinds have no public base
            raise SessionError(f"onnxruntime failed on {ids.shape}: {one_line(error)}") from error
        return self._logits[:rows].copy()
