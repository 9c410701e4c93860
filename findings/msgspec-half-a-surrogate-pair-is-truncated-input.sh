#!/usr/bin/env bash
# msgspec 0.22.0: half of a surrogate pair, escaped, in a field that nobody asked for fails the whole
# message, and the error says that the input was truncated.
#
# Such texts are valid by the grammar of JSON (RFC 8259, section 8.2), and Python's own json writes
# and reads them: they come from texts that were cut between the halves of an emoji.
# Expected: the field is skipped, or the error names the surrogate.
# Seen: "Input data was truncated", although nothing is missing. A number beyond a double in the same
# place is skipped.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet msgspec==0.22.0
"$folder/venv/bin/python" - <<'PYTHON'
import json

import msgspec


class Row(msgspec.Struct):
    text: str


cut = json.dumps({"text": "whole", "other": "\ud83d"})
assert json.loads(cut)["text"] == "whole"
try:
    msgspec.json.decode(cut, type=Row)
    seen = "decoded"
except msgspec.DecodeError as error:
    seen = str(error)
print(f"{cut}: {seen}")
assert seen == "Input data was truncated"
assert msgspec.json.decode('{"text": "whole", "other": 1e999}', type=Row) == Row("whole")
PYTHON
