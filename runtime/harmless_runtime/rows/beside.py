"""Name what a finished run leaves beside its output, so that a folder of rows passes it over."""

import re
from collections.abc import Collection

RECORD_SUFFIX = ".run.json"
# What a run on Ray leaves if it is interrupted: a folder with a manifest and folders of attempts.
PIECES_SUFFIX = ".pieces"
MANIFEST = "manifest.jsonl"
ATTEMPT = re.compile(r"\d{6,}-[0-9a-f]{12}")
_IN_PIECES = re.compile(
    rf"(.*/)?[^/]+{re.escape(PIECES_SUFFIX)}/"
    rf"({re.escape(MANIFEST)}|{ATTEMPT.pattern}/(scores|rejects)\.jsonl)"
)
# In an output that is a folder, these names begin with `_`, as Spark has it.
_FOLDER_RECORD = "_run.json"
_FOLDER_REJECTS = "_rejects.jsonl"
_FORMS = (".gz", ".zst", ".zstd", ".parquet", ".csv", ".tsv")


def record_name(output: str, *, is_folder: bool) -> str:
    """Return the name of the record of an output, below the folder itself if it is one."""
    return _FOLDER_RECORD if is_folder else output + RECORD_SUFFIX


def rejects_name(output: str, *, is_folder: bool = False) -> str:
    """Return the name of an output's rejects, below the folder itself if it is one.

    `x.rejects.jsonl` for `x.jsonl`, `x.parquet.rejects.jsonl` for `x.parquet` and the other forms,
    and `x.rejects` for a name `x` that says no form.
    """
    if is_folder:
        return _FOLDER_REJECTS
    if output.endswith(".jsonl"):
        return output.removesuffix(".jsonl") + ".rejects.jsonl"
    return output + (".rejects.jsonl" if output.endswith(_FORMS) else ".rejects")


def without_results(files: Collection[str], *, with_outputs: bool = False) -> list[str]:
    """Leave out what runs have written below a folder that is an input.

    These are records, and their outputs and rejects; whole folders below it that have a record; and
    pieces of interrupted runs on Ray. The folder that was named may be an output itself, whose rows
    are wanted.

    Args:
        files: the paths of all files below the folder, as seen from there.
        with_outputs: leave out only the records and the rejects.
    """
    files = [file for file in files if not _IN_PIECES.fullmatch(file)]
    outputs = {f.removesuffix(RECORD_SUFFIX) for f in files if f.endswith(RECORD_SUFFIX)}
    own = {name for f in outputs for name in (f, rejects_name(f), f + RECORD_SUFFIX)}
    if with_outputs:
        own -= outputs
        own |= {f for f in files if f.rpartition("/")[2] in (_FOLDER_RECORD, _FOLDER_REJECTS)}
        return [file for file in files if file not in own]
    folders = tuple(
        f.removesuffix(_FOLDER_RECORD) for f in files if f.endswith(f"/{_FOLDER_RECORD}")
    )
    return [file for file in files if file not in own and not file.startswith(folders)]
