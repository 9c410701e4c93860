"""Marks of templates among the words of a row are never scored in silence."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.scores.record import read_record
from processes import Harmless

DIALOGUE = "\n\nHuman: How do I boil an egg?\n\nAssistant:"
PLAIN = {"prompt": "How do I boil an egg?", "response": "Seven minutes in boiling water."}
# Requests that only begin as a template does, or quote one, and answers with marks.
MARKED = [
    {"prompt": "<|im_start|>user\nHi<|im_end|>\nand more", "response": "Hello."},
    {"prompt": "Read this:\n[INST] Hi [/INST]", "response": "Hello."},
    {"prompt": DIALOGUE.strip(), "response": "Seven minutes."},
    {"prompt": DIALOGUE.replace("\n", "\r\n"), "response": "Seven minutes."},
    {"prompt": f"{DIALOGUE} Sure,", "response": " seven minutes."},
    {"prompt": "Hi", "response": "Hello.\n\nHuman: And?\n\nAssistant: No."},
    {"prompt": "Hi", "response": "<|header_start|>assistant<|header_end|>\n\nHello."},
]
# Requests as templates that are not read write them, and turns as the text of their JSON or repr.
TURNS = [{"role": "user", "content": "Hi"}]
UNKNOWN = [
    "A chat between a curious user and an assistant. USER: Hi ASSISTANT:",
    "GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant:",
    "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>",
    "[gMASK]<sop><|user|>\nHi<|assistant|>\n",
    "<s><|User|>:Hi<eoh>\n",
    "<extra_id_0>System\n\n<extra_id_1>User\nHi\n<extra_id_1>Assistant\n",
    "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nAnd then?",
    "[|user|]Hi\n[|assistant|]",
    "[Round 1]\n\n问：Hi\n\n答：",
    "<reserved_106>Hi<reserved_107>",
    "<human>: Hi\n<bot>:",
    "]~!b[]~b]user\nHi[e~[\n]~b]ai\n",
    "<seed:bos>user\nHi<seed:eos><seed:bos>assistant\n",
    "### System:\nBe brief.\n\n### User:\nHi",
    json.dumps(TURNS),
    json.dumps([{"content": "Hi", "role": "user"}], indent=1),
    str(TURNS),
]
# Requests and answers in which nothing is a mark.
UNMARKED = [
    {"prompt": "What is <s> in HTML?", "response": "<s>struck</s>"},
    {"prompt": "User: hi\nBot: hello\nWho is human?", "response": "The first."},
    {"prompt": "let f x = x <| g |> h", "response": "a[0] # <b>\n> quoted\n## Title\n[1] b"},
    {"prompt": "What is ASSISTANT: after USER: for?", "response": '[{"value": 1}, {"value": 2}]'},
    {"prompt": "Which JSON?", "response": 'This:\n[{"role": "user"}]\n[gmask] [Round 1]'},
]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_with_marks_are_counted_and_warned_of_once(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "rows.jsonl", [PLAIN, *MARKED, *UNMARKED[:1] * 3])
    out = tmp_path / "o.jsonl"
    ran = harmless("score", rows, "-o", out, "--model", "demo")
    assert ran.returncode == 0
    (warning,) = (line for line in ran.stderr.splitlines() if "chat template" in line)
    assert f"{rows}, line 2: marks of a chat template are scored as words (<|im_start|>" in warning
    assert "[INST]" in warning
    assert "--strict" in warning
    assert f"{len(MARKED)} with marks scored as words" in ran.stderr
    record = read_record(Path(f"{out}.run.json"))
    assert record is not None
    assert record.counts["with_marks"] == len(MARKED)
    # They are scored as words: what stands in the row is wrapped, and not changed.
    seen = [{"instruction": row["prompt"], "output": row["response"]} for row in MARKED]
    as_is = Gpt2HarmlessScorer({"model": "demo", "as_is": True}).score_batch(seen)
    scores = [json.loads(line)["score"] for line in out.read_text().splitlines()]
    assert scores[1 : 1 + len(MARKED)] == pytest.approx(as_is, abs=1e-5)


@pytest.mark.parametrize("row", MARKED)
def test_a_strict_run_refuses_them(row: dict[str, str], tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "rows.jsonl", [PLAIN, row])
    ran = harmless("score", rows, "-o", tmp_path / "o.jsonl", "--model", "demo", "--strict")
    assert ran.returncode == 1
    assert f"{rows}, line 2: " in ran.stderr
    assert "mark of a chat template" in ran.stderr


def test_a_strict_run_takes_words_that_only_look_like_marks(
    tmp_path: Path, harmless: Harmless
) -> None:
    rows = write(tmp_path / "rows.jsonl", [PLAIN, *UNMARKED])
    ran = harmless("score", rows, "-o", tmp_path / "o.jsonl", "--model", "demo", "--strict")
    assert ran.returncode == 0, ran.stderr


def test_requests_with_turns_are_counted(tmp_path: Path, harmless: Harmless) -> None:
    rows = [
        PLAIN,
        {**PLAIN, "prompt": DIALOGUE},
        {**PLAIN, "response": f"{PLAIN['response']}</s>"},
        {**PLAIN, "prompt": f"[INST] {PLAIN['prompt']} [/INST]"},
    ]
    path, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "o.jsonl"
    ran = harmless("score", path, "-o", out, "--model", "demo")
    assert "2 with turns in the request · 1 without their end tokens" in ran.stderr
    assert "marks" not in ran.stderr
    scores = [json.loads(line)["score"] for line in out.read_text().splitlines()]
    assert scores == pytest.approx([0.26768956] * 4, abs=1e-5)
    record = read_record(Path(f"{out}.run.json"))
    assert record is not None
    assert (record.counts["with_turns"], record.counts["lost_end"]) == (2, 1)


def test_as_is_scores_words_as_the_original_does(tmp_path: Path, harmless: Harmless) -> None:
    rows = [{**PLAIN, "prompt": DIALOGUE}, {**PLAIN, "response": "Seven.<|endoftext|>"}]
    rows += [{**PLAIN, "system": "Be brief."}]
    path, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "o.jsonl"
    ran = harmless("score", path, "-o", out, "--model", "demo", "--as-is")
    assert ran.returncode == 0, ran.stderr
    assert "template" not in ran.stderr
    from harmless_runtime.config import make_config
    from harmless_runtime.model.load import load_engine

    engine = load_engine(make_config({"model": "demo"}), for_many_rows=True)
    pairs = [question_and_answer(row["prompt"], "", row["response"]) for row in rows]
    expected = engine.score(engine.tokenizer.encode(pairs))
    scores = [json.loads(line)["score"] for line in out.read_text().splitlines()]
    assert scores == pytest.approx(expected.tolist(), abs=1e-5)
    ran = harmless("score", path, "-o", out, "--model", "demo", "--resume")
    assert ran.returncode == 1, "the rows would be read otherwise than they were"
    assert "as_is" in ran.stderr


@pytest.mark.parametrize("request_text", UNKNOWN)
def test_requests_that_no_template_explains_are_not_scored_in_silence(
    request_text: str, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = Gpt2HarmlessScorer({"model": "demo"})
    with caplog.at_level(logging.WARNING):
        scorer.score([request_text], ["Hello."])
    (record,) = caplog.records
    assert "item 0: marks of a chat template are scored as words" in record.message


def test_python_warns_once_a_call(caplog: pytest.LogCaptureFixture) -> None:
    scorer = Gpt2HarmlessScorer({"model": "demo"})
    with caplog.at_level(logging.WARNING):
        rows: list[Any] = [PLAIN, *MARKED]
        scorer.score_batch(rows)
    (record,) = (each for each in caplog.records if "chat template" in each.message)
    assert "item 1: marks" in record.message
