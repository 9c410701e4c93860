"""The name of a model to an opened artifact: bundled, a folder, or a checkpoint's cached export."""

import hashlib
import logging
import os
import re
from pathlib import Path

from harmless_runtime import __version__, bundled
from harmless_runtime.config import Provider, ScorerConfig
from harmless_runtime.errors import ArtifactError, ConfigError
from harmless_runtime.model.artifact import Artifact, is_artifact, open_artifact
from harmless_runtime.model.providers import check_precision

logger = logging.getLogger(__name__)


def find_artifact(config: ScorerConfig, provider: Provider) -> Artifact:
    """Open the artifact that `model` names: `demo`, a folder, or a checkpoint's cached export."""
    if config.model == bundled.MODEL_NAME:
        # It came with the code, and is trusted as that is; installers may have hard-linked it.
        return open_artifact(bundled.MODEL, check_files=False)
    folder = _folder(config.model)
    if is_artifact(folder):
        return open_artifact(folder, check_files=config.check_files)
    if folder.is_dir() and not (folder / "config.json").exists():
        raise ArtifactError(
            f"{folder} is neither an artifact (it has no scorer.json) nor a checkpoint "
            "(it has no config.json)"
        )
    if not folder.is_dir() and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", config.model):
        raise ConfigError(f"model is {config.model!r}, and there is no such folder")
    precision = config.precision
    if precision == "auto":
        precision = "fp16" if provider == "cuda" else "fp32"
    check_precision(precision, provider, config.model)
    if not folder.is_dir():
        logger.info("there is no folder %s: it is taken as a Hugging Face id", config.model)
    # Another release may export another graph.
    name = f"{_cache_key(config.model, folder)}-{precision}-{__version__}"
    cached = _cache_folder() / name
    if is_artifact(cached):
        logger.info("using the export of %s in %s", config.model, cached)
        return open_artifact(cached, check_files=config.check_files)
    try:
        from harmless_export import export_checkpoint
    except ImportError:
        raise ConfigError(
            f"{config.model} is a checkpoint, and this installation cannot export one: "
            "pip install '.[export]' in the project's folder, then harmless export "
            f"{config.model} -o DIR and harmless score --model DIR (DIR can be made on another "
            "machine)"
        ) from None
    logger.info("exporting %s once, in %s, to %s", config.model, precision, cached)
    cached.parent.mkdir(parents=True, exist_ok=True)
    artifact = export_checkpoint(config.model, cached, precision=precision)
    for report in artifact.manifest.parity[:1]:
        logger.info(
            "its scores differ from PyTorch's in fp32 by %.2g standard deviations at most, and %g "
            "is allowed",
            report.relative,
            report.limit,
        )
    return artifact


def is_checkpoint(model: str) -> bool:
    """Tell whether a model's name stands for a checkpoint, which can be had in any precision."""
    return model != bundled.MODEL_NAME and not is_artifact(_folder(model))


def _folder(model: str) -> Path:
    return Path(os.path.expanduser(model))  # noqa: PTH111 - pathlib's raises for no user


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "harmless-scorer"


def _cache_key(model: str, folder: Path) -> str:
    """Name the export: an id as it is; a folder by its path and its files' sizes and times."""
    if not folder.is_dir():
        return model.replace("/", "--")
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for file in sorted(folder.iterdir()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{folder.resolve().name}-{digest.hexdigest()[:16]}"
