"""The artifact has the tokenizer that the checkpoint's files describe, or there is no artifact."""

from importlib.metadata import version
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer

from checkpoints import copy_of, edit_json, refused
from harmless_export import export_checkpoint

TRANSFORMERS = int(version("transformers").split(".")[0])


def test_a_setting_that_contradicts_the_tokenizers_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    edit_json(folder / "tokenizer_config.json", {"add_prefix_space": True})
    by_file = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("word").ids
    if AutoTokenizer.from_pretrained(folder)("word")["input_ids"] == by_file:
        pytest.skip("this release of transformers keeps what the file says")
    hint = refused(folder, tmp_path, "than the checkpoint's own tokenizer.json: ")
    assert "make the tokenizer's files agree" in hint


def test_a_normalizer_is_kept_or_the_export_stops(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    own.save(str(folder / "tokenizer.json"))
    if TRANSFORMERS >= 5:  # which makes the tokenizer anew, without the normalizer
        hint = refused(folder, tmp_path, "than the checkpoint's own tokenizer.json")
        assert "pip install 'transformers<5'" in hint
        return
    artifact = export_checkpoint(str(folder), tmp_path / "a", verify=False)
    kept = Tokenizer.from_file(str(artifact.folder / "tokenizer.json"))
    for text in ("HELLO \ufb01", "e\u0301", "plain"):
        assert kept.encode(text).ids == own.encode(text).ids
    assert kept.encode("HELLO").ids == kept.encode("hello").ids


def test_a_tokenizer_that_transformers_5_has_saved(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    # As 5.24 writes it for a tokenizer with a further special token.
    edit_json(folder / "tokenizer_config.json", {"extra_special_tokens": ["<|endoftext|>"]})
    if TRANSFORMERS >= 5:
        assert export_checkpoint(str(folder), tmp_path / "a", verify=False).folder.is_dir()
        return
    hint = refused(folder, tmp_path, "has a tokenizer that transformers 5 has saved")
    assert "export-core" in hint
