#!/usr/bin/env bash
# polars 2.1.0: an Arrow IPC file that write_ipc makes cannot be read front to back, as a pipe would.
#
# Expected: the part between the magic bytes and the footer is a valid IPC stream, as it is in the
# files of pyarrow, so that a reader of a pipe skips 8 bytes and reads the stream.
# Seen: pyarrow's reader of streams raises an error on it, while the same file is fine through its
# footer: the messages do not follow each other without gaps. The footer is at the end, so that such
# files have to be saved before they can be read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import polars
import pyarrow
from pyarrow import ipc

rows = {"question": ["How do I boil an egg?"], "answer": ["Seven minutes."]}
polars.DataFrame(rows).write_ipc("polars.arrow")
table = pyarrow.table(rows)
with ipc.new_file("pyarrow.arrow", table.schema) as file:
    file.write_table(table)
seen = {}
for name in ("pyarrow", "polars"):
    with open(f"{name}.arrow", "rb") as file:
        assert ipc.open_file(file).read_all().num_rows == 1
        file.seek(8)
        try:
            seen[name] = f"{ipc.open_stream(file).read_all().num_rows} row"
        except (OSError, pyarrow.ArrowInvalid) as error:
            seen[name] = type(error).__name__
print(f"read as a stream: {seen}")
assert seen["pyarrow"] == "1 row"
assert seen["polars"] != "1 row"
PYTHON
