"""Prompts and token ids, compared with those of the Hugging Face tokenizer."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from checkpoints import SHARED, make_tokenizer
from harmless_runtime import bundled
from harmless_runtime.errors import ArtifactError, ConfigError, InputError
from harmless_runtime.model.text_parts import TextParts
from harmless_runtime.model.tokenizer import PairTokenizer
from harmless_runtime.rows.prompt import question_and_answer

# Any text that UTF-8 can encode, and texts that tokenizers treat specially.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["<|endoftext|>", "a<|endoftext|>", " ", "\n\nHuman:", "\n\n", "", "'s", "  x", "́", "👩‍👩‍👧"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return folder


def test_prompt() -> None:
    assert question_and_answer("Hi", "", "Yo") == ("\n\nHuman: Hi\n\nAssistant:", "Yo")
    assert question_and_answer("Add", "1 2", "3") == ("\n\nHuman: Add\n1 2\n\nAssistant:", "3")


@settings(max_examples=300, deadline=None)
@given(
    pairs=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4),
    max_length=st.integers(1, 40),
)
def test_ids_and_truncation_are_those_of_transformers(
    folder: Path, pairs: list[tuple[str, str, str]], max_length: int
) -> None:
    texts = [question_and_answer(*fields) for fields in pairs]
    assert_same(AutoTokenizer.from_pretrained(folder), folder, texts, max_length)


def assert_same(
    reference: PreTrainedTokenizerFast,
    folder: Path,
    texts: list[tuple[str, str]],
    max_length: int,
    side: Literal["right", "left"] = "right",
) -> None:
    questions, answers = map(list, zip(*texts, strict=True))
    expected = reference(questions, answers, truncation=True, max_length=max_length)["input_ids"]
    full = reference(questions, answers)["input_ids"]
    encoded = PairTokenizer(folder / "tokenizer.json", max_length, side).encode(texts)
    assert [row.ids.tolist() for row in encoded] == expected
    assert [row.truncated for row in encoded] == [len(ids) > max_length for ids in full]


# Pieces of long texts, with and without places where such a text may be cut.
WORDS = ["The ", "a", "b7", "12", "'s", "é", "слово ", "中文", "カナ。", "한국", "½", "Ⅷ", "٣"]
SIGNS = [
    "'",
    ". ",
    ",",
    "==",
    "，",
    "\u0301",
    "\u200d",
    "👩",
    "<|",
    "endoftext",
    "|>",
    "<|endoftext|>",
]
BLANKS = [" ", "  ", "\n\n", "\t", "\r\n", "\xa0", "\u3000", "\u180e", "\x00", "\x1c", "\x85"]
PIECES = st.sampled_from(WORDS) | st.sampled_from(SIGNS) | st.sampled_from(BLANKS)
LONG_TEXT = st.lists(PIECES, max_size=120).map("".join)


@settings(max_examples=200, deadline=None)
@given(
    pairs=st.lists(st.tuples(LONG_TEXT, LONG_TEXT), min_size=1, max_size=4),
    length=st.integers(1, 30),
    from_end=st.booleans(),
)
def test_the_tokens_of_parts_are_those_of_the_whole_text(
    folder: Path, pairs: list[tuple[str, str]], length: int, from_end: bool
) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cut = TextParts(tokenizer, length, from_end=from_end)
    for text in (text for pair in pairs for text in pair):
        parts = list(cut.of(text))
        in_order = parts[::-1] if from_end else parts
        assert "".join(in_order) == text
        ids = [i for part in in_order for i in tokenizer.encode(part).ids]
        assert ids == tokenizer.encode(text).ids


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [1, 2, 7, 8, 511])
def test_long_texts_are_truncated_as_by_transformers(
    folder: Path, max_length: int, side: Literal["right", "left"]
) -> None:
    # The lengths of both sides are all around the limit and its half, and far beyond a part.
    rng = random.Random(max_length)
    reference = AutoTokenizer.from_pretrained(folder)
    reference.truncation_side = side
    half = max_length // 2
    counts = [
        0,
        1,
        half - 1,
        half,
        half + 1,
        max_length - 1,
        max_length,
        max_length + 1,
        9 * max_length,
    ]
    words = ["the", "quick:", "42", "foxes!", "中文，且", "'ll\n", "jump_over", "x"]
    texts = [
        (" ".join(rng.choices(words, k=max(0, one))), " ".join(rng.choices(words, k=max(0, two))))
        for one in counts
        for two in counts
    ]
    assert_same(reference, folder, texts, max_length, side)


@pytest.mark.parametrize("max_length", [255, 1024])
def test_memory_does_not_grow_with_the_product_of_both_lengths(
    folder: Path, max_length: int
) -> None:
    # In a process of its own, because the greatest memory of this one is that of other tests.
    script = f"""
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from harmless_runtime.model.tokenizer import PairTokenizer
tokenizer = PairTokenizer(Path({str(folder / "tokenizer.json")!r}), {max_length})
tokenizer.encode([("a short row", "and its answer")])
before = getrusage(RUSAGE_SELF).ru_maxrss
for size in (50_000, 2 * 2**20):
    text = "Some words, and more of them. " * (size // 30)
    (row,) = tokenizer.encode([(text, text)])
    assert len(row.ids) == {max_length} and row.truncated
    print((getrusage(RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    small, large = map(float, printed.split())
    assert small < 20  # MiB, besides a short row
    assert large < 60


def test_texts_that_cannot_be_tokenised_in_bounded_memory(folder: Path) -> None:
    tokenizer = PairTokenizer(folder / "tokenizer.json", 1024)
    endless = "a" * 3 * 2**20
    rows = tokenizer.encode_each([("Hello", "world"), (endless, "b"), ("c", " " * len(endless))])
    assert [row is None for row in rows] == [False, True, True]
    with pytest.raises(InputError, match="that cannot be tokenised piece by piece"):
        tokenizer.encode([("a", endless)])


@pytest.mark.parametrize("max_length", [1, 2, 17, 128, 1024])
def test_demo_rows(folder: Path, max_length: int) -> None:
    rows = [json.loads(line) for line in bundled.ROWS.read_text(encoding="utf-8").splitlines()]
    texts = [question_and_answer(r["instruction"], r.get("input", ""), r["output"]) for r in rows]
    assert_same(AutoTokenizer.from_pretrained(folder), folder, texts, max_length)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real GPT-2 vocabulary is not here")
@pytest.mark.parametrize("max_length", [64, 1024])
def test_real_vocabulary_on_real_text(max_length: int) -> None:
    vocabulary = SHARED / "data/gpt2-tokenizer"
    with gzip.open(SHARED / "data/hh_harmless_base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        chosen = [json.loads(line)["chosen"] for _, line in zip(range(200), file, strict=False)]
    texts = []
    for text in chosen:
        question, mark, answer = text.rpartition("\n\nAssistant:")
        texts.append((question + mark, answer))
    assert_same(AutoTokenizer.from_pretrained(vocabulary), vocabulary, texts, max_length)
    hello = PairTokenizer(vocabulary / "tokenizer.json", 1024).encode([("Hello world", "")])
    assert hello[0].ids.tolist() == [15496, 995]


def test_special_tokens_of_the_tokenizer_leave_room_or_are_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A",
        pair="<|endoftext|> $A <|endoftext|> $B:1",
        special_tokens=[("<|endoftext|>", 0)],
    )
    tokenizer.save_pretrained(tmp_path)
    texts = [("some words and more", "others"), ("", "")]
    assert_same(AutoTokenizer.from_pretrained(tmp_path), tmp_path, texts, 4)
    with pytest.raises(
        ConfigError, match="leaves no room for text, because this tokenizer adds 2 special"
    ):
        PairTokenizer(tmp_path / "tokenizer.json", 2)


def test_not_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is not a tokenizer"):
        PairTokenizer(tmp_path / "tokenizer.json", 1024)
