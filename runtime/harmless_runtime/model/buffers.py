"""Memory for the ids and the logits of a batch, and I/O binding to it."""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harmless_runtime.errors import OutOfMemoryError, one_line
from harmless_runtime.model.target import Target


class Buffers:
    """Memory for the ids and the logits of one batch, allocated once on the device.

    Args:
        session: what runs the batches.
        target: where to allocate the memory.
        size: the most ids, padding included, that a batch has.

    Raises:
        OutOfMemoryError: the device has no room for them.
    """

    def __init__(self, session: ort.InferenceSession, target: Target, size: int) -> None:
        self.size = size
        on_cuda = target.provider == "cuda"
        self._place = ("cuda", target.device) if on_cuda else ("cpu", 0)
        self._session = session
        self._binding = session.io_binding()
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

    def run(self, ids: NDArray[np.int64], options: ort.RunOptions) -> NDArray[np.float32]:
        """Run a batch.

        Args:
            ids: int64 [batch_size, sequence_length], which are copied to the device.
            options: ONNX Runtime's options of this run.

        Returns:
            The rewards, float32 [batch_size], copied from the device.
        """
        self._staging[: ids.size] = ids.ravel()
        self._ids.update_inplace(self._staging)
        self._binding.bind_input(
            "input_ids", *self._place, np.int64, list(ids.shape), self._ids.data_ptr()
        )
        self._binding.bind_output(
            "logits", *self._place, np.float32, [len(ids), 1], self._logits.data_ptr()
        )
        self._session.run_with_iobinding(self._binding, options)
        rewards: NDArray[np.float32] = self._logits.numpy()[: len(ids), 0].copy()
        return rewards
