"""Make the checkpoint and the rows that all competitors of a benchmark share."""

import gzip
import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, GPT2TokenizerFast

from harmless_runtime import bundled
from harmless_runtime.rows.prompt import question_and_answer

SIZES = {
    "tiny": {"n_embd": 64, "n_layer": 2, "n_head": 2},  # to rehearse a benchmark with
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
}
EOS = "<|endoftext|>"
ASSISTANT = "\n\nAssistant:"


@dataclass(frozen=True)
class Row:
    """A row as the scorers get it. It has no `input`, which would only lengthen the instruction."""

    instruction: str
    output: str

    @property
    def pair(self) -> tuple[str, str]:
        """The two texts that are tokenised."""
        return question_and_answer(self.instruction, "", self.output)


def load_rows(source: str, count: int, join: int = 1) -> list[Row]:
    """Read the first `count` rows of a JSONL file, gzipped or not, or generate them.

    If the file has fewer rows, its instructions are used again with the outputs of other rows, so
    that no row occurs twice.

    Args:
        source: a file whose lines hold `instruction` and `output`, or `chosen` as in hh-rlhf (its
            last answer is the output); or `generated`, for seeded rows of random words whose
            lengths are log-normal, in words, with median 100 and mean 125.
        count: how many rows.
        join: make each row of so many rows, by joining their outputs, so that rows are longer.
    """
    if source == "generated":
        own = _generated_rows(count)
    else:
        own = [_row(value, "chosen") for value in _read(source, count + join - 1)]
    if count > len(own) ** 2:
        raise SystemExit(f"{source} has {len(own)} rows: {count} different ones need more")
    rows = []
    for i in range(count):
        again, start = divmod(i, len(own))
        outputs = [own[(start + again + j) % len(own)].output for j in range(join)]
        rows.append(Row(own[start].instruction, "".join(outputs)))
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as `harmless score` reads them, with their numbers as ids."""
    with path.open("w", encoding="utf-8") as file:
        for i, row in enumerate(rows):
            value = {"id": i, "instruction": row.instruction, "output": row.output}
            file.write(json.dumps(value) + "\n")


def load_pairs(source: str, count: int) -> list[tuple[Row, Row]]:
    """Read the first `count` pairs of a file like hh-rlhf's: the chosen row, and the rejected."""
    values = _read(source, count)
    if not all("chosen" in value and "rejected" in value for value in values):
        raise SystemExit(f"{source} has lines without `chosen` and `rejected`")
    return [(_row(value, "chosen"), _row(value, "rejected")) for value in values]


def _read(source: str, count: int) -> list[dict[str, str]]:
    path = Path(source)
    open_rows = gzip.open if path.suffix == ".gz" else open
    with open_rows(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


def _row(value: dict[str, str], key: str) -> Row:
    if key not in value:
        return Row(value["instruction"], value["output"])
    question, _, answer = value[key].rpartition(ASSISTANT)
    return Row(question.removeprefix("\n\nHuman: "), answer)


def _generated_rows(count: int) -> list[Row]:
    generator = random.Random(0)

    def text() -> str:
        length = math.ceil(generator.lognormvariate(math.log(50), 0.67))
        return generated_text(generator, length)

    return [Row(text(), text()) for _ in range(count)]


def generated_text(generator: random.Random, words: int) -> str:
    """Return so many words, drawn from the bundled rows."""
    return " ".join(generator.choices(_vocabulary(), k=words))


@cache
def _vocabulary() -> list[str]:
    return sorted(set(bundled.ROWS.read_text(encoding="utf-8").split()))


def checkpoint(model: str, tokenizer: str | None, cache: Path) -> Path:
    """Return the folder of a checkpoint, making a random one in `cache` the first time.

    Args:
        model: a folder, or `random:SIZE` with a size of `SIZES`, or `random:SIZE-outliers`.
        tokenizer: the tokenizer folder of a random model; without one its tokens are bytes.
        cache: where random checkpoints are kept.
    """
    if not model.startswith("random:"):
        return Path(model)
    size = model.removeprefix("random:")
    if size.removesuffix("-outliers") not in SIZES:
        raise SystemExit(f"there is no size {size}: choose one of {', '.join(SIZES)}")
    folder = cache / f"{size}-{Path(tokenizer).name if tokenizer else 'bytes'}"
    if not (folder / "model.safetensors").exists():
        part = folder.with_name(f"{folder.name}.partial")
        save_random_checkpoint(part, size, tokenizer)
        part.rename(folder)
    return folder


def random_model(size: str) -> GPT2ForSequenceClassification:
    """Return a seeded random reward model of a real size, with weights large enough to show.

    If `-outliers` follows the size, three channels of the residual stream are far larger than all
    others, most of all at the first position, and have small gains in the LayerNorms. Trained GPT-2
    models are like that.
    """
    torch.manual_seed(0)
    size, outliers, _ = size.partition("-outliers")
    model = GPT2ForSequenceClassification(GPT2Config(num_labels=1, **SIZES[size]))
    with torch.no_grad():
        # GPT-2's initial weights are so small that a wrong graph, or rounding, would hardly show.
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(float(name.endswith("weight")), 0.1)
            elif name.startswith("transformer.h."):
                parameter.normal_(0, 1 / parameter.shape[0] ** 0.5)
        if outliers:
            values = torch.tensor([3000.0, -2100.0, 1200.0])
            positions = model.transformer.wpe.weight
            # Embeddings as small as GPT-2's initial ones would not matter beside such channels.
            model.transformer.wte.weight.normal_(0, 0.7)
            positions.normal_(0, 0.4)
            positions[0, :3] += values
            positions[1:, :3] += values / 30
            for name, parameter in model.named_parameters():
                if "ln_" in name and name.endswith("weight"):
                    parameter[:3] *= 0.05
    return model


def save_random_checkpoint(folder: Path, size: str, tokenizer: str | None) -> None:
    """Save a random reward model whose scores spread by more than 1, with a tokenizer."""
    model = random_model(size)
    with torch.no_grad():
        model.score.weight.normal_(0, 3 / model.score.weight.shape[1] ** 0.5)
    made = AutoTokenizer.from_pretrained(tokenizer) if tokenizer else byte_tokenizer()
    made.save_pretrained(folder)
    model.config.pad_token_id = made.eos_token_id
    model.save_pretrained(folder)


def byte_tokenizer() -> GPT2TokenizerFast:
    """Return a byte-level BPE without merges: texts have about four times as many tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=257, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([""], trainer)
    return GPT2TokenizerFast(tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS)
