"""Run `harmless doctor`: what is installed here, what works, and how fast it is."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmless_runtime import __version__
from harmless_runtime.cache import cache_folder
from harmless_runtime.choices import Provider
from harmless_runtime.cli.failures import settings_as_flags
from harmless_runtime.config import make_config
from harmless_runtime.errors import HarmlessError, SessionError
from harmless_runtime.model import openvino
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.cuda import cuda_obstacle
from harmless_runtime.model.load import load_engine
from harmless_runtime.model.memory import usable_memory
from harmless_runtime.model.processor import this_processor
from harmless_runtime.model.tokenizer import Encoded

# The packages that matter, by the extra that brings them. None is what every installation has.
_PACKAGES: dict[str | None, tuple[str, ...]] = {
    None: ("numpy", "tokenizers", "msgspec"),
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "openvino": ("onnxruntime-ep-openvino",),
    "export": ("torch", "transformers", "onnx-ir", "optimum-onnx"),
    "parquet": ("pyarrow",),
    "remote": ("fsspec", "s3fs", "gcsfs", "huggingface-hub"),
    "report": ("vl-convert-python",),
}
# Rows of the speed test: they have this many tokens, as those of hh-rlhf have on average.
_TOKENS = 170
_SECONDS = 3.0


def run(model: str) -> None:
    """Print what is found. `model` is what the speed test scores with."""
    out = Console()
    for title, facts in (
        ("versions", _versions()),
        ("machine", _machine()),
        ("providers", _providers()),
        (f"speed with {model}, rows of {_TOKENS} tokens", _speeds(model)),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, fact in facts:
            table.add_row(escape(name), escape(fact))
        out.print(table)


def _versions() -> Iterator[tuple[str, str]]:
    yield "harmless-scorer", __version__
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    for extra, names in _PACKAGES.items():
        found = {name: _version(name) for name in names}
        told = ", ".join(f"{name} {v or 'missing'}" for name, v in found.items())
        if extra and None in found.values():
            told += f" (pip install '.[{extra}]' in the project's folder)"
        yield extra or "packages", told


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine() -> Iterator[tuple[str, str]]:
    yield "processor", str(this_processor())
    yield "cores", f"{usable_cores()} to be used, of {os.cpu_count()} logical ones"
    memory = usable_memory()
    if memory is not None:
        total, free = memory
        yield "memory", f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
    folder = cache_folder()
    parent = next(p for p in (folder, *folder.parents) if p.is_dir())
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    yield (
        "cache",
        f"{folder}: {size / 1e9:.2f} GB of exports; {shutil.disk_usage(parent).free / 1e9:.1f} GB "
        "free on the disk (harmless models lists and removes them)",
    )


def _providers() -> Iterator[tuple[str, str]]:
    yield "cpu", "works, in fp32, int8 and fp16"
    obstacle = cuda_obstacle(0)
    yield "cuda", "works" if obstacle is None else str(obstacle)
    try:
        yield "openvino", f"works, in {openvino.choose_compute('auto')} by default"
    except SessionError as error:
        yield "openvino", settings_as_flags(error.with_hint)


def _speeds(model: str) -> Iterator[tuple[str, str]]:
    """Score rows for a few seconds with each provider that works."""
    providers: list[Provider] = ["cpu"]
    if cuda_obstacle(0) is None:
        providers.append("cuda")
    try:
        openvino.find_device()
        providers.append("openvino")
    except SessionError:
        pass
    for provider in providers:
        try:
            yield provider, _speed(model, provider)
        except HarmlessError as error:
            yield provider, settings_as_flags(error.with_hint)


def _speed(model: str, provider: Provider) -> str:
    engine = load_engine(make_config({"model": model, "provider": provider}), for_many_rows=True)
    rng = np.random.default_rng(0)
    count, seconds = 8, 0.0
    vocabulary = engine.artifact.manifest.vocab_size
    length = min(_TOKENS, engine.tokenizer.max_length)
    while seconds < _SECONDS / 2:
        ids = rng.integers(0, vocabulary, (count, length)).astype(np.int32)
        start = time.perf_counter()
        engine.score([Encoded(row, truncated=False) for row in ids])
        seconds = time.perf_counter() - start
        count *= 2
    rows = count // 2 / seconds
    million = engine.artifact.manifest.parameters / 1e6
    about = f"{engine.precision}, a model of {million:,.0f} million parameters"
    return f"{rows * length:,.0f} tokens/s, {rows:,.1f} rows/s ({about})"
