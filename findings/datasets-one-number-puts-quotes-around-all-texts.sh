#!/usr/bin/env bash
# datasets 5.0.1: one number in a column of texts of JSON lines, and to_parquet stores all texts of
# the column as JSON, which pandas and polars read with quotes around each text.
#
# Expected: an error about the mixed types, as before 4.8, or texts that other readers give back.
# Seen: the column gets the type Json by itself. Parquet has it as Arrow's extension arrow.json, whose
# storage is text, and readers that do not decode it give '"Boil it."' in place of 'Boil it.'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.0.1 pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1
cd "$folder"
HF_HOME=$folder/cache HF_HUB_OFFLINE=1 venv/bin/python - <<'PYTHON'
import json

import datasets
import pandas
import polars

datasets.disable_progress_bars()
for name, last in (("texts", "4"), ("mixed", 4)):
    rows = [{"answer": "Boil it."}, {"answer": last}]
    with open(f"{name}.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    made = datasets.load_dataset("json", data_files=f"{name}.jsonl", split="train")
    made.to_parquet(f"{name}.parquet")
    seen = {
        "datasets": datasets.load_dataset(
            "parquet", data_files=f"{name}.parquet", split="train"
        )[0]["answer"],
        "pandas": pandas.read_parquet(f"{name}.parquet")["answer"][0],
        "polars": polars.read_parquet(f"{name}.parquet")["answer"][0],
    }
    print(f"{name}: {made.features['answer']}, {seen}")
    assert seen["datasets"] == "Boil it."
    other = "Boil it." if name == "texts" else '"Boil it."'
    assert seen["pandas"] == seen["polars"] == other
PYTHON
