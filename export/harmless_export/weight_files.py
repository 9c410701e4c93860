"""Find the files of a checkpoint that hold its weights, and open them without reading them."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harmless_export.checkpoint import SAFETENSORS, read_json
from harmless_export.tensor_files import StoredTensor, open_pickle, open_safetensors
from harmless_runtime.errors import CheckpointError

PICKLE = "pytorch_model.bin"
_INDEX = ".index.json"


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a checkpoint's weights.

    Attributes:
        paths: the files. Their names tell which are pickles, as in transformers.
        listed: the tensors that an index lists, which are all that transformers reads. None without
            an index.
    """

    paths: list[Path]
    listed: frozenset[str] | None = None

    @property
    def pickles(self) -> list[Path]:
        """Those files that are pickles."""
        return [path for path in self.paths if path.suffix != ".safetensors"]


def find_weights(folder: Path, *, allow_pickle: bool) -> WeightFiles:
    """Find the weights of a checkpoint: safetensors, or else pickles if they are allowed.

    Raises:
        CheckpointError: there are no weights, some are missing, or they are pickles and
            `allow_pickle` is False.
    """
    found = _named(folder, SAFETENSORS) or _named(folder, PICKLE)
    if found is None:
        raise _no_weights(folder)
    if found.pickles and not allow_pickle:
        raise CheckpointError(
            f"{folder} has its weights only as a pickle ({found.pickles[0].name}), and a pickle "
            "can run code when it is loaded",
            "if you trust where it comes from, `allow_pickle` reads it",
        )
    return found


def open_tensors(weights: WeightFiles, files: ExitStack) -> dict[str, StoredTensor]:
    """Return all tensors by their names in the files, which stay open until `files` is closed.

    Raises:
        CheckpointError: a file is damaged, or a pickle holds more than tensors.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in weights.paths:
        tensors |= open_pickle(path) if path in weights.pickles else open_safetensors(path, files)
    if weights.listed is None:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if name in weights.listed}


def _no_weights(folder: Path) -> CheckpointError:
    for path in (folder / SAFETENSORS, folder / PICKLE):
        if path.is_symlink() and not path.exists():
            return CheckpointError(
                f"{path} is a link to {path.readlink()}, which does not exist",
                "copy or download the checkpoint again",
            )
    pickles = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt")] if p.is_file())
    if pickles:
        return CheckpointError(
            f"{folder} has neither {SAFETENSORS} nor {PICKLE}, only {pickles[0]}",
            f"if it holds the weights by their names in transformers, call it {PICKLE}",
        )
    return CheckpointError(
        f"{folder} has no {SAFETENSORS}",
        f"if the hub has only a pickle ({PICKLE}), `allow_pickle` downloads and reads it; or a "
        "branch has a converted copy: set `revision` to refs/pr/1, for example",
    )


def _named(folder: Path, name: str) -> WeightFiles | None:
    """Return the file of this name, or the parts that its index lists, or None."""
    if (folder / name).is_file():
        return WeightFiles([folder / name])
    index = folder / (name + _INDEX)
    return _listed(index) if index.is_file() else None


def _listed(index: Path) -> WeightFiles:
    content = read_json(index)
    mapping = content.get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise CheckpointError(
            f"{index} has no weight_map, which names the file of each tensor", _AGAIN
        )
    names = set(map(str, mapping.values()))
    if foreign := sorted(name for name in names if Path(name).name != name or name in _NO_FILES):
        raise CheckpointError(
            f"{index} does not name files of its own folder: {foreign[0]!r}",
            "put the files of the weights beside the index, and name them without a folder",
        )
    parts = {name: index.parent / name for name in sorted(names)}
    # Path.is_file raises an error for names that are too long.
    if missing := [name for name, path in parts.items() if not os.path.isfile(path)]:  # noqa: PTH113
        raise CheckpointError(
            f"{index.parent} is incomplete: {', '.join(missing[:3])} is missing", _AGAIN
        )
    if not isinstance(content.get("metadata"), dict):
        raise CheckpointError(
            f"{index} has no metadata, without which transformers does not load it",
            'set "metadata" to {} in it',
        )
    return WeightFiles(list(parts.values()), frozenset(mapping))


# These are names of folders, although pathlib takes them for a last part.
_NO_FILES = ("", "..")
_AGAIN = "copy or download the checkpoint again"
