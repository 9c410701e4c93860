"""Measure an artifact's parity with its checkpoint, and record it in the artifact."""

import logging
from pathlib import Path

import msgspec

from harmless_export.checkpoint import Checkpoint, locate
from harmless_export.parity import LIMITS, compare, parity_pairs
from harmless_export.reference import optimum_obstacle, optimum_scores, pytorch_scores
from harmless_runtime.choices import ProviderChoice
from harmless_runtime.errors import CheckpointError, ParityError, SessionError
from harmless_runtime.model.artifact import (
    Artifact,
    Parity,
    Reference,
    open_artifact,
    write_manifest,
)
from harmless_runtime.model.load import build_engine, falls_back_to_cpu
from harmless_runtime.model.providers import choose_provider
from harmless_runtime.model.target import Target

logger = logging.getLogger(__name__)


def verify_artifact(
    artifact: Artifact | str | Path,
    *,
    checkpoint: str | None = None,
    provider: ProviderChoice = "auto",
    device: int = 0,
    parity_limit: float | None = None,
    allow_pickle: bool = False,
) -> Artifact:
    """Measure an artifact's parity again, and store it in the artifact's `scorer.json`.

    Args:
        artifact: an artifact folder, or an opened artifact.
        checkpoint: where its checkpoint is, if not where the manifest says.
        provider: the execution provider.
        device: number of the CUDA device.
        parity_limit: the largest difference that passes, as in `export_checkpoint`.
        allow_pickle: read the checkpoint's weights from a pickle, as in `export_checkpoint`.

    Returns:
        The artifact with the new report.

    Raises:
        CheckpointError: the checkpoint cannot be found.
        ParityError: the largest difference exceeds the limit. The report is then not stored.
        SessionError: the artifact does not run on the provider.
    """
    if not isinstance(artifact, Artifact):
        artifact = open_artifact(Path(artifact))
    manifest = artifact.manifest
    # The provider is chosen before PyTorch scores, which takes minutes.
    target = Target(choose_provider(provider, manifest.precision, device), device)
    try:
        source = locate(
            checkpoint or manifest.source,
            None if checkpoint else manifest.revision,
            allow_pickle=allow_pickle,
        )
    except CheckpointError as error:
        if checkpoint is not None:
            raise
        raise CheckpointError(
            f"{error} (this is the checkpoint that {artifact.folder} names)",
            f"set `checkpoint` to where it is now{f'; {error.hint}' if error.hint else ''}",
        ) from error
    return record_parity(artifact, source, target, requested=provider, parity_limit=parity_limit)


def record_parity(
    artifact: Artifact,
    checkpoint: Checkpoint,
    target: Target,
    *,
    requested: ProviderChoice,
    parity_limit: float | None = None,
) -> Artifact:
    """Compare an artifact with its checkpoint, and write the report into `scorer.json`.

    Args:
        artifact: the artifact.
        checkpoint: the checkpoint.
        target: where to run the artifact.
        requested: the provider that was asked for. If it is `auto` and the GPU cannot run the
            artifact, the comparison is made on the CPU.
        parity_limit: the largest difference that passes, as in `export_checkpoint`.

    Raises:
        ParityError, SessionError: as `verify_artifact`.
    """
    manifest = artifact.manifest
    pairs = parity_pairs()
    # PyTorch first, while memory is empty, because it holds its weights twice while it loads them.
    logger.info("scoring %d texts with PyTorch in fp32", len(pairs))
    truth = pytorch_scores(
        checkpoint.folder, pairs, manifest.max_length, allow_pickle=checkpoint.allow_pickle
    )
    # The old reference is left out, because it is about to be measured again.
    unmeasured = Artifact(artifact.folder, manifest.unmeasured)
    try:
        engine = build_engine(unmeasured, target)
    except SessionError as error:
        on_cpu = target.provider == "cpu"
        if on_cpu or not falls_back_to_cpu(error, requested, manifest.precision):
            raise
        target = Target("cpu")
        engine = build_engine(unmeasured, target)
    logger.info("scoring %d texts with ONNX Runtime (%s)", len(pairs), target.provider)
    encoded = engine.tokenizer.encode(pairs)
    scores = {f"harmless ({target.provider})": engine.score(encoded)}
    del engine  # so that only one model is in memory at a time
    obstacle = optimum_obstacle(target.provider)
    if obstacle is None:
        logger.info("scoring %d texts with Optimum", len(pairs))
        runner = f"optimum ({target.provider})"
        scores[runner] = optimum_scores(artifact, pairs, target.provider, target.device)
    else:
        logger.warning("the report has no column for Optimum, because %s", obstacle)
    limit = LIMITS[manifest.precision] if parity_limit is None else parity_limit
    reports = [compare(runner, truth, other, limit) for runner, other in scores.items()]
    for report in reports:
        check_parity(artifact, report)
    reference = Reference(encoded[0].ids.tolist(), float(truth[0]), limit * float(truth.std()))
    manifest = msgspec.structs.replace(
        manifest, parity=reports, parity_note="", reference=reference
    )
    write_manifest(artifact.folder, manifest)
    return Artifact(artifact.folder, manifest)


def check_parity(artifact: Artifact, report: Parity) -> None:
    """Raise ParityError if the largest difference exceeds the limit, or is not a number."""
    if report.relative <= report.limit:
        return
    precision = artifact.manifest.precision
    advice = {
        "fp32": "this is not rounding: unless the checkpoint is another one, do not use the "
        "artifact, and report it",
        "fp16": "the model may overflow in fp16: export in bf16 or fp32",
        "bf16": "export in fp16 or fp32",
        "int8": "this model loses too much in int8: export in fp32",
    }[precision]
    raise ParityError(
        f"{report.runner}: the largest difference from PyTorch fp32 is {report.max_abs:.3g}, or "
        f"{report.relative:.3g} of the scores' standard deviation, but {precision} may differ by "
        f"{report.limit:g}",
        f"{advice}; `parity_limit` allows more",
    )
