#!/usr/bin/env bash
# datasets 5.0.1: texts that are dates, loaded from JSON lines with features that say they are
# strings, come back as other texts.
#
# Expected: the feature Value("string") keeps "2024-01-01", as it does for CSV and from_list.
# Seen: "2024-01-01 00:00:00", without a word. The reader of JSON makes timestamps of such texts, and
# these are then cast to strings.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.0.1 pyarrow==26.0.1
cd "$folder"
HF_HOME=$folder/cache HF_HUB_OFFLINE=1 venv/bin/python - <<'PYTHON'
import datasets
from datasets import Features, Value

datasets.disable_progress_bars()
text = "2024-01-01"
with open("rows.jsonl", "w") as file:
    file.write('{"answer": "2024-01-01"}\n')
with open("rows.csv", "w") as file:
    file.write("answer\n2024-01-01\n")
strings = Features({"answer": Value("string")})


def loaded(form: str, name: str) -> object:
    return datasets.load_dataset(form, data_files=name, features=strings, split="train")[0]["answer"]


seen = {
    "JSON lines": loaded("json", "rows.jsonl"),
    "CSV": loaded("csv", "rows.csv"),
    "from_list": datasets.Dataset.from_list([{"answer": text}], features=strings)[0]["answer"],
}
print(seen)
assert seen == {"JSON lines": "2024-01-01 00:00:00", "CSV": text, "from_list": text}
PYTHON
