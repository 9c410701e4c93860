"""Define the device that a session runs on, and how it runs there."""

from dataclasses import dataclass

from harmless_runtime.choices import Compute, Provider


@dataclass(frozen=True)
class Target:
    """The device that a session runs on, and how it runs there.

    Attributes:
        provider: the execution provider, as `choose_provider` returns it.
        device: number of the CUDA device.
        gpu_memory: most GPU memory for weights and activations, in GB. CUDA's own memory comes on
            top.
        compute: what OpenVINO computes in. The other providers compute in the artifact's precision.
        threads: threads of a CPU session, for all batches that run at once. None means one thread
            for each core.
        streams: batches that run at once. CUDA runs one at a time.
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
    compute: Compute = "fp32"
    threads: int | None = None
    streams: int = 1
    sdpa_kernels: str = "19"
    graph_tokens: int = 0

    @property
    def name(self) -> str:
        """The name of the provider, and what it computes in if that is its own choice."""
        return f"openvino, {self.compute}" if self.provider == "openvino" else self.provider
