"""Measure an artifact's parity: score the same texts with its checkpoint and with the artifact."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from harmless_export.checkpoint import Source, locate, read_config
from harmless_export.tokenizer import load_tokenizer, refuse_kernels
from harmless_runtime import bundled
from harmless_runtime.config import Provider
from harmless_runtime.errors import CheckpointError, ParityError, SessionError
from harmless_runtime.model.artifact import (
    Artifact,
    Parity,
    Reference,
    open_artifact,
    write_manifest,
)
from harmless_runtime.model.engine import build_engine, cpu_instead
from harmless_runtime.model.providers import (
    check_precision,
    provider_for,
    select_provider,
)
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Record

logger = logging.getLogger(__name__)

# The largest difference from PyTorch fp32 that passes, as a share of the scores' standard
# deviation. PyTorch's own bf16 differs by about half of what bf16 may.
LIMITS = {"fp32": 1e-4, "fp16": 3e-2, "bf16": 0.2, "int8": 0.2}
_OPTIMUM_BATCH = 4

Pairs = Sequence[tuple[str, str]]


def verify_artifact(
    artifact: Artifact | str | Path,
    *,
    checkpoint: str | None = None,
    provider: str = "auto",
    device: int = 0,
    limit: float | None = None,
) -> Artifact:
    """Measure an artifact's parity again, and store it in the artifact's `scorer.json`.

    Args:
        artifact: an artifact folder, or one that is opened.
        checkpoint: where its checkpoint is, if not where the manifest says.
        provider: `auto`, `cuda` or `cpu`.
        device: the CUDA device's number.
        limit: as `export_checkpoint`.

    Returns:
        The artifact with the new report.

    Raises:
        CheckpointError: the checkpoint cannot be found.
        ParityError: the largest difference exceeds the limit; the report is not stored.
        SessionError: the artifact does not run on the provider.
    """
    if not isinstance(artifact, Artifact):
        artifact = open_artifact(Path(artifact))
    manifest = artifact.manifest
    chosen = provider_for(manifest.precision, provider, select_provider(provider, device))
    check_precision(manifest.precision, chosen, str(artifact.folder))
    try:
        source = locate(checkpoint or manifest.source, None if checkpoint else manifest.revision)
    except CheckpointError as error:
        if checkpoint is not None:
            raise
        raise CheckpointError(
            f"{error} (this is the checkpoint that {artifact.folder} names: say where it is now "
            "with --checkpoint)"
        ) from error
    return record_parity(
        artifact, source, requested=provider, provider=chosen, device=device, limit=limit
    )


def record_parity(
    artifact: Artifact,
    source: Source,
    *,
    requested: str,
    provider: Provider,
    device: int = 0,
    limit: float | None = None,
) -> Artifact:
    """Compare with the checkpoint at `source`, and write the report into `scorer.json`.

    The provider is the one that was chosen for the one requested. If that was `auto`, and the GPU
    cannot run the artifact, the comparison is made on the CPU.
    """
    manifest = artifact.manifest
    pairs = parity_pairs()
    # PyTorch first, while memory is empty: it holds its weights twice while it loads them.
    logger.info("scoring %d texts with PyTorch in fp32", len(pairs))
    truth = pytorch_scores(source.folder, pairs, manifest.max_length)
    # The reference text is about to be measured again, so the device is not held to the old one.
    unmeasured = Artifact(artifact.folder, manifest.unmeasured)
    try:
        engine = build_engine(unmeasured, provider, device=device)
    except SessionError as error:
        if provider == "cpu" or not cpu_instead(error, requested, manifest.precision):
            raise
        provider = "cpu"
        engine = build_engine(unmeasured, provider)
    logger.info("scoring them with ONNX Runtime (%s)", provider)
    encoded = engine.tokenizer.encode(pairs)
    scores = {f"harmless ({provider})": engine.score(encoded)}
    del engine  # one model in memory at a time
    obstacle = _optimum_obstacle(provider)
    if obstacle is None:
        logger.info("scoring them with Optimum")
        scores[f"optimum ({provider})"] = optimum_scores(artifact, pairs, provider, device)
    else:
        logger.warning("not scoring them with Optimum, because %s", obstacle)
    limit = limit if limit is not None else LIMITS[manifest.precision]
    reports = [compare(runner, truth, other, limit) for runner, other in scores.items()]
    for report in reports:
        # Not `>`: a score that is not a number has to fail too.
        if not report.relative <= limit:
            raise ParityError(_failure(artifact, report))
    tolerance = limit * float(truth.std())
    reference = Reference(encoded[0].ids.tolist(), float(truth[0]), tolerance)
    manifest = msgspec.structs.replace(
        manifest, parity=reports, parity_note="", reference=reference
    )
    write_manifest(artifact.folder, manifest)
    return Artifact(artifact.folder, manifest)


def _optimum_obstacle(provider: Provider) -> str | None:
    """Say why Optimum cannot score here, or return None if it can."""
    try:
        found = find_spec("optimum.onnxruntime") is not None
    except ModuleNotFoundError:  # not even Optimum's other half is there
        found = False
    if not found:
        return "it is not installed"
    if provider == "cuda" and not torch.cuda.is_available():
        return "it needs a PyTorch with CUDA, and this one has none"
    return None


def _failure(artifact: Artifact, report: Parity) -> str:
    precision = artifact.manifest.precision
    advice = {
        "fp32": "this is not rounding, so do not use the artifact: report it with the checkpoint",
        "fp16": "the model overflows or strains fp16: export with --precision bf16 or fp32",
        "bf16": "export with --precision fp16 or fp32",
        "int8": "the model does not bear int8: export with --precision fp32",
    }[precision]
    return (
        f"{report.runner}: the largest difference from PyTorch fp32 is {report.max_abs:.3g}, "
        f"{report.relative:.3g} of the scores' standard deviation, and {precision} may differ by "
        f"{report.limit:g}; {advice}, or allow more with --parity-limit"
    )


def parity_pairs() -> list[tuple[str, str]]:
    """Return the (Q, A) texts of a verification: the bundled rows, and longer ones made of them."""
    lines = bundled.ROWS.read_bytes().splitlines()
    records = [msgspec.json.decode(line, type=Record) for line in lines]
    pairs = [question_and_answer(r.instruction, r.input or "", r.output) for r in records]
    # Lengths between the bundled rows' and the longest, with Q or A the longer part.
    for count in (3, 6, 9, 12):
        text = "\n\n".join(record.output for record in records[:count])
        pairs.append((pairs[0][0], text))
        pairs.append(question_and_answer(text, "", records[-1].output))
    return pairs


def pytorch_scores(folder: Path, pairs: Pairs, max_length: int) -> NDArray[np.float32]:
    """Score pairs one by one with the checkpoint itself, GPT2ForSequenceClassification in fp32.

    Returns:
        float32 [len(pairs)].
    """
    refuse_kernels()
    from transformers import GPT2Config, GPT2ForSequenceClassification

    read_config(folder)
    tokenizer = load_tokenizer(folder)
    config = GPT2Config(**json.loads((folder / "config.json").read_bytes()))
    config.num_labels = 1
    config.pad_token_id = tokenizer.pad_token_id
    with _quiet_transformers():
        model = GPT2ForSequenceClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True
        ).eval()
        with torch.inference_mode():
            scores = [
                model(**_encode(tokenizer, [pair], max_length)).logits[0, 0].item()
                for pair in pairs
            ]
    return np.array(scores, np.float32)


def optimum_scores(
    artifact: Artifact, pairs: Pairs, provider: str, device: int
) -> NDArray[np.float32]:
    """Score pairs with Optimum's ORTModelForSequenceClassification on the artifact folder.

    Returns:
        float32 [len(pairs)].

    Raises:
        SessionError: Optimum cannot load or run the folder.
    """
    try:
        from optimum.onnxruntime import ORTModelForSequenceClassification
        from transformers import AutoTokenizer

        with _quiet_transformers():
            model = ORTModelForSequenceClassification.from_pretrained(
                artifact.folder,
                provider="CUDAExecutionProvider" if provider == "cuda" else "CPUExecutionProvider",
                provider_options={"device_id": device} if provider == "cuda" else None,
            )
            tokenizer = AutoTokenizer.from_pretrained(artifact.folder)
            logits = [
                model(
                    **_encode(
                        tokenizer,
                        pairs[start : start + _OPTIMUM_BATCH],
                        artifact.manifest.max_length,
                    ).to(model.device)
                ).logits
                for start in range(0, len(pairs), _OPTIMUM_BATCH)
            ]
    except Exception as error:  # whatever it is, it is Optimum's
        raise SessionError(f"Optimum cannot score with {artifact.folder}: {error}") from error
    scores: NDArray[np.float32] = torch.cat(logits)[:, 0].float().cpu().numpy()
    return scores


def _encode(tokenizer: Any, pairs: Pairs, max_length: int) -> Any:
    questions, answers = zip(*pairs, strict=True)
    return tokenizer(
        list(questions),
        list(answers),
        truncation=True,
        padding=True,
        max_length=max_length,
        return_tensors="pt",
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def compare(
    runner: str, truth: NDArray[np.float32], scores: NDArray[np.float32], limit: float
) -> Parity:
    """Compare two score vectors, float32 [texts] each, with `truth` as the reference.

    Spearman's coefficient is Pearson's of the ranks (ties are ranked in their order here, which
    random float32 scores hardly have).
    """
    a, b = truth.astype(np.float64), scores.astype(np.float64)
    difference = np.abs(a - b)
    upper = np.triu_indices(len(a), 1)
    order_a, order_b = (np.sign(np.subtract.outer(v, v))[upper] for v in (a, b))
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable") for v in (a, b)]
    return Parity(
        runner=runner,
        texts=len(a),
        score_std=float(a.std()),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        relative=float(difference.max() / a.std()),
        limit=limit,
        pearson=float(np.corrcoef(a, b)[0, 1]),
        spearman=float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
        reordered=int((order_a * order_b < 0).sum()),
        pairs=len(order_a),
    )
