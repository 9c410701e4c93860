"""Find the files that an input's name stands for: a file, a pattern or a folder."""

import glob
import io
import logging
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from harmless_runtime.counted import counted
from harmless_runtime.errors import InputError
from harmless_runtime.rows import remote
from harmless_runtime.rows.beside import without_results
from harmless_runtime.rows.contents import HEAD_BYTES, check_beginning, plain_name
from harmless_runtime.rows.saved_sets import with_saved_sets
from harmless_runtime.rows.sources import STDIN, Source, find_source

logger = logging.getLogger(__name__)

# So many remote inputs are looked into before the run, and others when it is their turn.
_LOOKED_INTO = 1000
# Where the cache of the Hugging Face hub has a revision.
_REVISION = re.compile(r"((?:.*/)?snapshots/)([0-9a-f]{40})/")
# What says something of a set of rows beside its files.
_ABOUT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_ROW_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")


def find_sources(names: Iterable[str], *, with_outputs: bool = False) -> tuple[Source, ...]:
    """Check the inputs that names stand for, in the order of the names.

    A folder stands for the files in it and in its folders that have the suffix of a known form, and
    a pattern for the files that match it, in each case sorted by path. Where
    `datasets.save_to_disk` wrote a folder, in it or below it, that stands for its data files.

    Args:
        names: of files, folders, patterns and URLs.
        with_outputs: whether folders stand for the outputs of finished runs in them, too.

    Raises:
        InputError: an input cannot be read, or a folder or a pattern holds no input.
        ConfigError: an input is remote, and packages for that are missing.
    """
    found = [
        (path, _below(name, path))
        for name in map(remote.local_path, names)
        for path in _expand(name, with_outputs)
    ]
    is_elsewhere = any(remote.is_remote(path) for path, _ in found)

    def look(number: int) -> Source:
        source = find_source(*found[number])
        if source.kind == "remote" and number < _LOOKED_INTO:
            head = remote.first_bytes(source.where, HEAD_BYTES, source.size)
            check_beginning(source.name, io.BytesIO(head).read)
        return source

    looking = (remote.at_once if is_elsewhere else map)(look, range(len(found)))
    sources = zip(counted(found, "inputs are found"), looking, strict=True)
    return tuple(source for _, source in sources)


def _below(name: str, path: str) -> str:
    """Return the path of an input below the folder that was named, or its own name."""
    if not remote.is_remote(name):
        below = os.path.relpath(path, name) if Path(name).is_dir() else ".."
        # A saved dataset may name files elsewhere.
        return Path(path).name if below.startswith("..") else below
    return remote.below(name, path)


def _expand(name: str, with_outputs: bool) -> list[str]:
    if name == STDIN:
        return [name]
    if remote.is_remote(name):
        matching = remote.files_matching(name)
        if matching is not None:
            return _not_empty(name, matching)
        inside = remote.files_in(name)
        return [name] if inside is None else _chosen(name, inside, with_outputs)
    path = Path(name)
    if path.is_dir():
        return _chosen(name, _without_special(_files_in(path)), with_outputs)
    if not path.exists() and glob.has_magic(name):
        # Path.glob gives other names: it drops a leading ./ and does not take absolute patterns.
        found = glob.glob(name, recursive=True)  # noqa: PTH207
        files = sorted(_without_special(file for file in found if not Path(file).is_dir()))
        if files and (folders := sorted(f for f in found if Path(f).is_dir() and "**" not in name)):
            logger.warning(
                "%s matches folders too, which are left out: %s", name, ", ".join(folders[:3])
            )
        return _not_empty(name, files)
    return [name]


def _not_empty(pattern: str, matching: list[str]) -> list[str]:
    if not matching:
        raise InputError(f"no file matches {pattern}")
    return matching


def _without_special(files: Iterable[str]) -> list[str]:
    """Leave out pipes, devices and sockets, which nobody may ever write to or read."""
    ordinary: list[str] = []
    special: list[str] = []
    for file in files:
        try:
            is_special = not stat.S_ISREG(os.stat(file).st_mode)  # noqa: PTH116 - it is faster
        except OSError:  # it is reported when the file is opened
            is_special = False
        (special if is_special else ordinary).append(file)
    if special:
        some = ", ".join(special[:3]) + (f" and {len(special) - 3:,} more" if special[3:] else "")
        logger.warning("pipes, devices and sockets are passed over: %s", some)
    return ordinary


def _files_in(folder: Path) -> list[str]:
    """Return all files below a folder, also by links to other folders, sorted by path.

    Raises:
        InputError: a folder cannot be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error

    found = []
    seen = set()
    for path, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        folders.sort()
        real = os.path.realpath(path)
        if real in seen:  # a link leads back
            folders.clear()
            continue
        seen.add(real)
        found += [str(Path(path, file)) for file in files]
    return sorted(found)


def _chosen(folder: str, files: list[str], with_outputs: bool) -> list[str]:
    """Return the files of a folder that hold rows, by their suffixes."""
    below = {file: _below(folder, file) for file in files}
    rows = set(without_results(below.values(), with_outputs=with_outputs))
    shown = [f for f, path in below.items() if not _is_hidden(path)]
    _check_revisions(folder, (below[file] for file in shown))
    named = [
        file
        for file in with_saved_sets(shown)
        if plain_name(file).endswith(_ROW_SUFFIXES) and Path(file).name not in _ABOUT_ROWS
    ]
    # A saved set may name files elsewhere.
    chosen = [file for file in named if file not in below or below[file] in rows]
    if named and not chosen:
        raise InputError(
            f"{folder} holds only what finished runs have written, which is passed over",
            f"name the files themselves, such as {named[0]}",
        )
    if not chosen:
        raise InputError(
            f"{folder} holds no file whose name ends in {', '.join(_ROW_SUFFIXES)}",
            "name the files themselves, whatever they are called",
        )
    left = sorted(set(shown) - set(chosen))
    if left:
        some = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        logger.info("%s: %d files are read, %d are not: %s", folder, len(chosen), len(left), some)
    return chosen


def _is_hidden(path: str) -> bool:
    """Return whether a path below a folder is one that programs leave for themselves."""
    return any(part.startswith((".", "_")) for part in Path(path).parts)


def _check_revisions(folder: str, files: Iterable[str]) -> None:
    """Raise InputError if the cache of the Hugging Face hub holds a set of rows more than once.

    Args:
        folder: that was named.
        files: paths below it.
    """
    found: dict[str, set[str]] = {}
    for match in filter(None, map(_REVISION.match, files)):
        found.setdefault(match[1], set()).add(match[2])
    for place, revisions in found.items():
        if len(revisions) > 1:
            raise InputError(
                f"{folder} holds {len(revisions)} revisions of the same rows",
                f"name one of them: {folder.rstrip('/')}/{place}{min(revisions)}",
            )
