"""Prompts and token ids, compared with those of the Hugging Face tokenizer."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from checkpoints import SHARED, make_tokenizer
from harmless_runtime import bundled
from harmless_runtime.errors import ArtifactError, ConfigError
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
    reference: PreTrainedTokenizerFast, folder: Path, texts: list[tuple[str, str]], max_length: int
) -> None:
    questions, answers = map(list, zip(*texts, strict=True))
    expected = reference(questions, answers, truncation=True, max_length=max_length)["input_ids"]
    full = reference(questions, answers)["input_ids"]
    encoded = PairTokenizer(folder / "tokenizer.json", max_length).encode(texts)
    assert [row.ids.tolist() for row in encoded] == expected
    assert [row.truncated for row in encoded] == [len(ids) > max_length for ids in full]


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
