"""Find what a model's name stands for: the bundled model, an artifact, or a checkpoint."""

import hashlib
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harmless_runtime import __version__, bundled
from harmless_runtime.cache import cache_folder
from harmless_runtime.choices import DEFAULT_MODEL, Precision
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ArtifactError, ConfigError
from harmless_runtime.model.artifact import Artifact, is_artifact, open_artifact

logger = logging.getLogger(__name__)

# Files up to this size are read for the name of an export. Configurations and tokenizers have less.
_SMALL_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ArtifactFolder:
    """An artifact to be opened, and whether its files have to be checked."""

    path: Path
    check_files: bool


@dataclass(frozen=True)
class CheckpointName:
    """A Hugging Face checkpoint that has to be exported first: a folder, or an id on the hub."""

    name: str
    folder: Path | None


def resolve(name: str, *, check_files: bool = True) -> ArtifactFolder | CheckpointName:
    """Find what a model's name stands for.

    Args:
        name: `demo` for the bundled model, an artifact folder, a checkpoint folder, or a Hugging
            Face id.
        check_files: whether the files of an artifact are to be checked.

    Raises:
        ArtifactError: the name is a folder that is neither an artifact nor a checkpoint.
        ConfigError: the name is neither a folder nor a possible id.
    """
    if name == bundled.MODEL_NAME:
        # The bundled model came with the code, and is trusted as much. Installers may have made
        # hard links to its files, which the check would refuse.
        return ArtifactFolder(bundled.MODEL, check_files=False)
    folder = Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib's raises for an unknown user
    if is_artifact(folder):
        return ArtifactFolder(folder, check_files)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise ArtifactError(
                f"{folder} is neither an artifact (it has no scorer.json) nor a checkpoint (it has "
                "no config.json)"
            )
        return CheckpointName(name, folder)
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) or Path(name).parent.is_dir():
        raise ConfigError(
            f"model is {name!r}, and there is no such folder",
            "name an artifact, a checkpoint's folder, the word demo, or a Hugging Face id such as "
            f"{DEFAULT_MODEL}",
        )
    logger.info("there is no folder %s, so it is taken as a Hugging Face id", folder)
    return CheckpointName(name, None)


def cached_export(
    checkpoint: CheckpointName, precision: Precision, config: ScorerConfig
) -> Artifact:
    """Open the cached export of a checkpoint. Export it first if there is none.

    Args:
        checkpoint: what was asked for.
        precision: of the export.
        config: settings, of which `check_files` and `allow_pickle` are used.

    Raises:
        ConfigError: there is none, and the export extra is not installed.
        ArtifactError, CheckpointError, ParityError: as opening and exporting raise them.
    """
    cached = _cached_path(checkpoint, precision)
    if is_artifact(cached):
        logger.info("using the export of %s in %s", checkpoint.name, cached)
        return open_artifact(cached, check_files=config.check_files, weights_later=True)
    try:
        from harmless_export import export_checkpoint
    except ImportError:
        what = f"{checkpoint.name} is a checkpoint"
        if checkpoint.folder is None:
            what = f"there is no folder {checkpoint.name}; as a Hugging Face id it is a checkpoint"
        raise ConfigError(
            f"{what}, and this installation cannot export one",
            "pip install '.[export]' in the project's folder; or run harmless export "
            f"{checkpoint.name} -o DIR on another machine, and set `model` to a copy of DIR",
        ) from None
    logger.info("exporting %s once, in %s, to %s", checkpoint.name, precision, cached)
    cached.parent.mkdir(parents=True, exist_ok=True)
    artifact = export_checkpoint(
        checkpoint.name, cached, precision=precision, allow_pickle=config.allow_pickle
    )
    for report in artifact.manifest.parity[:1]:
        logger.info(
            "the export's scores differ from PyTorch's in fp32 by at most %.2g standard deviations "
            "(allowed: %g)",
            report.relative,
            report.limit,
        )
    if checkpoint.folder is not None:
        _remove_outdated(cached)
    return artifact


def _cached_path(checkpoint: CheckpointName, precision: Precision) -> Path:
    """Return where the export of a checkpoint is kept, and its digest at the end of the name.

    The digest of a folder is made of the content of its small files, and of the sizes and times of
    its weights, which take too long to read.
    """
    # Another release may export another graph.
    kind = f"{precision}-{__version__}"
    if checkpoint.folder is None:
        return cache_folder() / f"{checkpoint.name.replace('/', '--')}-{kind}"
    folder = checkpoint.folder.resolve()
    place = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} ".encode())
        if status.st_size <= _SMALL_BYTES:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        else:
            digest.update(f"{status.st_mtime_ns}\n".encode())
    return cache_folder() / f"{folder.name}-{place}-{kind}-{digest.hexdigest()[:16]}"


def _remove_outdated(cached: Path) -> None:
    """Remove the exports of what the same folder held before, so that the cache does not grow."""
    place, _, _ = cached.name.rpartition("-")
    for other in cached.parent.iterdir():
        if other != cached and other.name.rpartition("-")[0] == place and is_artifact(other):
            logger.info("removing the export of an earlier state of the checkpoint: %s", other)
            shutil.rmtree(other, ignore_errors=True)
