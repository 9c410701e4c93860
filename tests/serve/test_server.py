"""Scores over HTTP are those of the command, whoever asks at the same time."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from served import Served, serving

from harmless_runtime import bundled
from processes import in_a_shell
from reading import read_rows

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROWS = list(read_rows(bundled.ROWS))
LIMITS = ("--max-rows", "100", "--max-body", "200000", "--max-line-bytes", "50000")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), *LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The scores that the command gives the bundled rows."""
    folder = tmp_path_factory.mktemp("truth")
    script = f"$0 score {bundled.ROWS} -o scores.jsonl --model demo --provider cpu"
    assert in_a_shell(script, folder).returncode == 0
    lines = (folder / "scores.jsonl").read_text().splitlines()
    return [json.loads(line)["score"] for line in lines]


def post(served: Served, path: str, body: Any, **options: Any) -> Any:
    return httpx.post(served.url + path, json=body, timeout=60, **options)


def test_scores_are_the_commands_alone_and_among_others(served: Served, truth: list[float]) -> None:
    assert post(served, "/score", ROWS).json()["scores"] == pytest.approx(truth, abs=2e-5)
    assert post(served, "/score", ROWS[0]).json()["scores"] == pytest.approx(truth[:1], abs=2e-5)

    def ask(number: int) -> None:
        start = number % len(ROWS)
        some = slice(start, start + 1 + number % 3)
        answer = post(served, "/score", {"rows": ROWS[some]})
        assert answer.json()["scores"] == pytest.approx(truth[some], abs=2e-5)

    with ThreadPoolExecutor(64) as clients:
        list(clients.map(ask, range(150)))
    together = httpx.get(served.url + "/metrics").text
    counts = [line for line in together.splitlines() if line.startswith("harmless_rows_together_c")]
    assert float(counts[0].split()[1]) < 152, "some requests were scored together"


def test_rows_of_any_shape_and_rows_without_a_score(served: Served) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    one = post(served, "/score", chat).json()["scores"]
    assert one == post(served, "/score", [{"prompt": "a", "response": "b"}]).json()["scores"]
    answer = post(served, "/score", {"rows": [chat, {"messages": []}, 3], "on_error": "null"})
    assert answer.json()["scores"] == [*one, None, None]
    assert post(served, "/score", []).json() == {"scores": []}
    row = {"prompt": "a", "response": "b", "rows": [chat, chat]}
    assert post(served, "/score", row).json()["scores"] == one, "an envelope has no other members"


DIALOGUE = "\n\nHuman: How are you?\n\nAssistant: Fine."
CHAT_ML = (
    "<|im_start|>user\nHow are you?<|im_end|>\n"
    "<|im_start|>assistant\nFine.<|im_end|>\n<|endoftext|>"
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHow are you?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nFine.<|eot_id|>"
)


@pytest.mark.parametrize(
    ("query", "prompt"),
    [
        (DIALOGUE, None),
        (DIALOGUE + "</s><pad><pad>", None),
        (CHAT_ML, None),
        (CHAT_ML.partition("Fine.")[0] + "Fine.", CHAT_ML.partition("Fine.")[0]),
        (LLAMA, None),
        ("How are you?Fine.<eos>", "How are you?"),
        (DIALOGUE, DIALOGUE.removesuffix(" Fine.")),
        (LLAMA.removesuffix("<|eot_id|>") + "<|end_of_text|></s>", None),
    ],
)
def test_trainers_texts_are_read_as_what_they_say(
    query: str, prompt: str | None, served: Served
) -> None:
    # A dialogue keeps the space after Assistant: as a part of the answer.
    answer = " Fine." if query.startswith(DIALOGUE) else "Fine."
    row = {"instruction": "How are you?", "output": answer}
    (expected,) = post(served, "/score", row).json()["scores"]
    prompts = [] if prompt is None else [prompt]
    body: Any = {"query": [query], "prompts": prompts, "labels": [None]}
    assert post(served, "/get_reward", body).json() == {
        "rewards": [pytest.approx(expected, abs=2e-5)],
        "scores": [pytest.approx(expected, abs=2e-5)],
        "extra_logs": {},
    }
    if prompt is None:
        body = {"model": "harmless", "input": query, "use_activation": False}
        told = post(served, "/classify", body).json()
        assert told["data"][-1]["probs"][-1] == pytest.approx(expected, abs=2e-5)
        assert told["usage"]["prompt_tokens"] > 5


def test_empty_lists_are_answered(served: Served) -> None:
    body: Any = {"query": [], "prompts": [], "labels": []}
    assert post(served, "/get_reward", body).json()["rewards"] == []
    assert post(served, "/classify", {"model": "", "input": []}).json()["data"] == []


BAD: list[tuple[str, bytes, int, str]] = [
    ("/score", b"{oops", 400, "not valid JSON"),
    ("/score", b"\xff", 400, "invalid UTF-8 at byte 0"),
    ("/score", b"{oops}", 400, "not valid JSON"),
    ("/score", b"hello", 400, "not valid JSON"),
    ("/score", b'[{"instruction": "a"', 400, "ends early, in element 1"),
    ("/score", b'{"instruction": "a", "out', 400, "it ends too early"),
    ("/score", b'[{"instruction": "a", "output": "b"}] 1', 400, "something follows the JSON array"),
    ("/score", b" \n", 400, "the body is empty"),
    ("/score", b"3", 400, "the body has to be"),
    ("/score", b"[" * 100_000, 400, "ends early"),
    ("/score", b"[" * 20_000 + b"]" * 20_000, 422, "row 0: Expected `object`, got `array`"),
    ("/score", b'{"a":' * 8_000 + b"1" + b"}" * 8_000, 422, "row 0: the JSON is nested too"),
    ("/score", b'{"rows": null}', 400, 'rows has to be a list of rows: {"rows": [...]}'),
    ("/score", b'{"on_error": "null"}', 400, "rows has to be a list of rows"),
    ("/score", b'{"rows": [], "on_error": "skip"}', 400, "on_error has to be"),
    ("/score", b'{"rows": [{}, 3,], "on_error": "null"}', 400, "nothing where row 2 should be"),
    ("/score", b"[{},,{}]", 400, "nothing where row 1 should be"),
    ("/score", b'{"rows": [{}],, "on_error": "null"}', 400, "not valid JSON"),
    ("/get_reward", b'{"query": "a", "prompts": ["a", "b"]}', 400, "1 query, and 2 prompts"),
    ("/score", b'[{"instruction": "a"}]', 422, "row 0"),
    ("/score", b'[{"instruction": "a", "output": 3}]', 422, "row 0"),
    (
        "/score",
        b'[{"instruction": "a", "output": "\\ud800"}]',
        422,
        "row 0: not valid JSON: half of",
    ),
    ("/get_reward", b'{"query": ["\\ud800"]}', 400, "half of a pair of \\u escapes"),
    ("/get_reward", b"", 400, "the body is empty"),
    ("/score", b"[1, null]", 422, "row 0"),
    ("/score", json.dumps([ROWS[0]] * 101).encode(), 413, "more than 100 rows"),
    ("/score", b'{"rows": [%b 1e]}' % (b"1," * 100), 413, "more than 100 rows"),
    ("/score", b" " * 200_001, 413, "more than 200,000 bytes"),
    ("/score", json.dumps({"instruction": "a", "output": "b" * 60_000}).encode(), 422, "row 0"),
    ("/get_reward", b"{}", 400, "query"),
    ("/get_reward", b'{"query": [3]}', 400, "query"),
    ("/get_reward", b'{"query": ["just a text"]}', 422, "neither turns of a chat template"),
    ("/get_reward", b'{"query": ["<|im_start|>user\\nhi"]}', 422, "row 0"),
    ("/classify", b'{"input": null}', 400, "input"),
    (
        "/get_reward",
        json.dumps({"query": [CHAT_ML + "more"]}).encode(),
        422,
        "neither turns of a chat template",
    ),
]


@pytest.mark.parametrize(("path", "body", "status", "reason"), BAD, ids=lambda v: str(v)[:20])
def test_bad_bodies_are_refused_with_a_reason(
    path: str, body: bytes, status: int, reason: str, served: Served
) -> None:
    answer = httpx.post(served.url + path, content=body, timeout=60)
    assert answer.status_code == status
    assert reason in answer.json()["error"]


def test_other_paths_and_methods(served: Served) -> None:
    wrong = httpx.get(served.url + "/score")
    assert wrong.status_code == 405
    assert wrong.headers["Allow"] == "POST"
    assert wrong.json() == {"error": "/score does not take GET"}
    for number in range(3):
        missing = httpx.post(f"{served.url}/generate{number}")
        assert missing.status_code == 404
        assert "there is no such path; there are /classify, " in missing.json()["error"]
    with_slash = httpx.post(f"{served.url}/score/", json=[])
    assert with_slash.status_code == 404
    assert "Location" not in with_slash.headers
    told = httpx.get(served.url + "/metrics").text
    assert 'harmless_requests_total{path="/score",status="405"} 1.0' in told
    assert 'harmless_requests_total{path="other",status="404"} 4.0' in told
    assert "generate" not in told, "a client cannot make names of its own"
    assert httpx.get(served.url + "/health").json() == {"status": "ok"}
    assert httpx.get(served.url + "/ready").status_code == 200


def test_nothing_of_a_request_is_logged(served: Served) -> None:
    post(served, "/score", {"instruction": "a secret", "output": "of mine"})
    httpx.post(served.url + "/score", content=b'[{"instruction": "a secret"}]')
    log = served.log.read_text()
    assert "secret" not in log
    assert "Traceback" not in log


def test_a_signal_loses_no_request_that_was_accepted(tmp_path: Path) -> None:
    done: list[tuple[float, int | str]] = []

    def ask() -> None:
        while True:
            start = time.monotonic()
            try:
                status = httpx.post(server.url + "/score", json=ROWS, timeout=60).status_code
            except httpx.HTTPError as error:
                done.append((start, type(error).__name__))
                return
            done.append((start, status))

    with serving(tmp_path) as server:
        clients = [threading.Thread(target=ask) for _ in range(8)]
        for client in clients:
            client.start()
        time.sleep(1.5)
        at = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(60)
        assert server.process.wait(60) == 0
    assert len(done) > 8
    # A connection that was made just before the signal may not have been accepted.
    assert {status for start, status in done if start < at - 0.1} == {200}
    assert "every request that was accepted is answered" in server.log.read_text()
