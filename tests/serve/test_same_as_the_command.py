"""What `/score` makes of a row is what `harmless score` makes of it, to the last digit."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serving

from harmless_runtime import bundled
from processes import in_a_shell

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

GOOD = rb'{"instruction": "Say hello.", "output": "Hello!"}'
# Rows, and whether they have a score.
ROWS = {
    "a good row": (GOOD, True),
    "a number beyond a double": (GOOD[:-1] + b', "z": 1e999}', True),
    "a number of 5,000 digits": (GOOD[:-1] + b', "z": ' + b"7" * 5000 + b"}", True),
    "another shape, with such a number": (b'{"prompt": "a", "response": "b", "z": 1e999}', False),
    "half of a pair": (rb'{"instruction": "a", "output": "\ud83d"}', False),
    "its other half": (rb'{"instruction": "a", "output": "b\ude00c"}', False),
    "the whole pair": (rb'{"instruction": "a", "output": "\ud83d\ude00"}', True),
    "NaN": (GOOD[:-1] + b', "z": NaN}', False),
    "no UTF-8": (GOOD[:-1] + b', "z": "\xff"}', False),
    "no row": (b"3", False),
    "nested too deeply": (GOOD[:-1] + b', "z": ' + b"[" * 5000 + b"]" * 5000 + b"}", False),
    "a text that cannot be tokenised": (GOOD[:-3] + b"b" * 600_000 + b'"}', False),
    "brackets in a text": (rb'{"instruction": "[{\"", "output": "}],\\"}', True),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


def command_scores(raws: list[bytes], folder: Path) -> list[str | None]:
    """Return the text of each row's score in the command's file, or None for a reject."""
    (folder / "r.jsonl").write_bytes(b"\n".join(raws) + b"\n")
    script = "$0 score r.jsonl -o s.jsonl --model demo --provider cpu --details -q"
    assert in_a_shell(script, folder).returncode in (0, 3)
    scores: list[str | None] = [None] * len(raws)
    for line in (folder / "s.jsonl").read_text().splitlines():
        place = json.loads(line)["line"] - 1
        scores[place] = re.search(r'"score": ([^,}]+)', line)[1]  # type: ignore[index]
    return scores


def server_scores(body: bytes, served: Served) -> list[str | None]:
    """Return the text of each score in an answer."""
    answer = httpx.post(served.url + "/score", content=body, timeout=60)
    assert answer.status_code == 200, answer.text
    texts = re.fullmatch(r'\{"scores":\[(.*)\]\}', answer.text)
    assert texts
    return [None if text == "null" else text for text in texts[1].split(",")]


def test_each_row_is_scored_or_set_aside_as_the_command_does_it(
    served: Served, tmp_path: Path
) -> None:
    raws = [raw for raw, _ in ROWS.values()]
    body = b'{"rows": [' + b", ".join(raws) + b'], "on_error": "null"}'
    ours = server_scores(body, served)
    assert {name: score is not None for name, score in zip(ROWS, ours, strict=True)} == {
        name: has_score for name, (_, has_score) in ROWS.items()
    }
    theirs = command_scores(raws, tmp_path)
    for name, one, other in zip(ROWS, ours, theirs, strict=True):
        assert (one is None) == (other is None), name
        if one and other:
            assert float(one) == pytest.approx(float(other), abs=2e-5), name


@pytest.mark.parametrize("name", [name for name, (_, has_score) in ROWS.items() if not has_score])
def test_a_row_that_is_wrong_is_named_and_alone_it_is_too(
    name: str, served: Served, tmp_path: Path
) -> None:
    raw, _ = ROWS[name]
    if name.startswith("another shape"):  # which is recognised if the row is alone
        assert None not in server_scores(raw, served) + command_scores([raw], tmp_path)
        return
    several = b"[%b, %b]" % (GOOD, raw)
    for body, place in ((several, 1), (b"\xef\xbb\xbf%b\n" % several, 1), (raw, 0)):
        answer = httpx.post(served.url + "/score", content=body, timeout=60)
        if body == b"3":
            continue  # a body that is no row
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"].startswith(f"row {place}: ")
        assert "truncated" not in answer.text


def test_a_comma_at_the_end_is_said_in_words(served: Served) -> None:
    answer = httpx.post(served.url + "/score", content=b"[%b,]" % GOOD, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "there is nothing where row 1 should be, as after a comma too many"
    )


def test_a_score_has_the_same_text_as_in_the_commands_file(served: Served, tmp_path: Path) -> None:
    for raw in bundled.ROWS.read_bytes().splitlines()[:8]:
        (theirs,) = command_scores([raw], tmp_path)
        (ours,) = server_scores(raw, served)
        if float(str(theirs)) == pytest.approx(float(str(ours)), abs=1e-9):
            assert ours == theirs
            break
    else:
        pytest.fail("no score is equal as float32")
    (tmp_path / "s.jsonl").unlink()
    dialogue = "\n\nHuman: How are you?\n\nAssistant: Fine."
    for path, body, key in (
        ("/get_reward", {"query": [dialogue], "prompts": []}, "scores"),
        ("/classify", {"input": dialogue}, "probs"),
    ):
        text = httpx.post(served.url + path, json=body, timeout=60).text
        number = re.search(rf'"{key}":\[([^\]]+)\]', text)
        assert number
        assert len(number[1].strip("-").replace(".", "")) <= 10, "a float64 has more digits"
