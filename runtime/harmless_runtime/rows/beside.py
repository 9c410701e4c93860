"""Name what a finished run leaves beside its output, so that a folder of rows passes it over."""

from collections.abc import Collection

RECORD_SUFFIX = ".run.json"
_FORMS = (".gz", ".zst", ".zstd", ".parquet", ".csv", ".tsv")


def rejects_name(output: str) -> str:
    """Return the name of an output's rejects.

    `x.rejects.jsonl` for `x.jsonl`, `x.parquet.rejects.jsonl` for `x.parquet` and the other forms,
    and `x.rejects` for a name `x` that says no form.
    """
    if output.endswith(".jsonl"):
        return output.removesuffix(".jsonl") + ".rejects.jsonl"
    return output + (".rejects.jsonl" if output.endswith(_FORMS) else ".rejects")


def without_results(files: Collection[str]) -> list[str]:
    """Leave out the records of finished runs, and their outputs and rejects."""
    outputs = {f.removesuffix(RECORD_SUFFIX) for f in files if f.endswith(RECORD_SUFFIX)}
    own = {name for f in outputs for name in (f, rejects_name(f), f + RECORD_SUFFIX)}
    return [file for file in files if file not in own]
