"""Tell which instruction sets this machine's processor has."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Those that decide how fast matrix products are, by Linux's names for them.
_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx_vnni": "AVX_VNNI",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "amx_int8": "AMX_INT8",
    "amx_bf16": "AMX_BF16",
}


@dataclass(frozen=True)
class Processor:
    """A processor: its name, the instruction sets of `_SETS` that it has, and who made it."""

    name: str
    sets: tuple[str, ...]
    maker: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.sets)})" if self.sets else self.name

    @property
    def has_amx(self) -> bool:
        """Whether it multiplies matrices of bf16 in units of their own."""
        return "AMX_BF16" in self.sets


@cache
def this_processor() -> Processor:
    """Return this machine's processor. Its instruction sets are known on Linux only."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return Processor(platform.processor() or platform.machine(), ())
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", "").split()
    sets = tuple(name for flag, name in _SETS.items() if flag in flags)
    name = facts.get("model name") or platform.machine()
    return Processor(name, sets, facts.get("vendor_id", ""))
