"""Find the data files of sets of rows that `datasets.save_to_disk` wrote below a folder."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from harmless_runtime.errors import InputError
from harmless_runtime.rows import remote


class _Split(msgspec.Struct):
    """The file `dataset_dict.json` of a saved `DatasetDict`."""

    splits: list[str]


class _DataFile(msgspec.Struct):
    filename: str


class _SavedState(msgspec.Struct):
    """The file `state.json` of a saved `Dataset`."""

    files: list[_DataFile] = msgspec.field(name="_data_files")


def with_saved_sets(files: Sequence[str]) -> list[str]:
    """Put the data files of sets that `datasets.save_to_disk` wrote in the place of their folders.

    Args:
        files: those below a folder.

    Raises:
        InputError: a set has several splits, or cannot be read.
    """
    there = set(files)
    folders = set()
    for file in files:
        name = file.rpartition("/")[2]
        folder = file.removesuffix(name)  # it ends in `/`, and the current one has no name
        is_set = name == "state.json" and f"{folder}dataset_info.json" in there
        if is_set or name == "dataset_dict.json":
            folders.add(folder)
    found = []
    outer = None
    # All that begins with the same folder stands together, and after it.
    for place in sorted([*folders, *files]):
        if outer is not None and place.startswith(outer):
            continue
        outer = place if place in folders else None
        found += [place] if outer is None else _data_files(outer, there)
    return found


def _data_files(folder: str, there: set[str]) -> list[str]:
    """Return the data files of a saved set, or of the only split of one, in their order."""
    try:
        if f"{folder}dataset_dict.json" not in there:
            state = msgspec.json.decode(_content(f"{folder}state.json"), type=_SavedState)
            return [f"{folder}{file.filename}" for file in state.files]
        splits = msgspec.json.decode(_content(f"{folder}dataset_dict.json"), type=_Split).splits
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"cannot read the saved dataset {folder}: {error}") from error
    if len(splits) != 1:
        raise InputError(
            f"{folder.rstrip('/')} holds the splits {', '.join(splits)}",
            f"name one of them: {folder}{splits[0]}" if splits else None,
        )
    return _data_files(f"{folder}{splits[0]}/", there)


def _content(file: str) -> bytes:
    with remote.open_file(file) if remote.is_remote(file) else Path(file).open("rb") as opened:
        return opened.read()
