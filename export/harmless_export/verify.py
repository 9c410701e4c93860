"""Measure an artifact's parity with its checkpoint, and record it in the artifact."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from harmless_export.checkpoint import Checkpoint, checkpoint_of
from harmless_export.parity import LIMITS, compare, parity_pairs
from harmless_export.reference import Pairs, optimum_obstacle, optimum_scores, pytorch_scores
from harmless_runtime.choices import ComputeChoice, Precision, ProviderChoice
from harmless_runtime.config import make_config
from harmless_runtime.errors import HarmlessError, ParityError, SessionError, one_line
from harmless_runtime.model.artifact import (
    Artifact,
    Parity,
    Reference,
    harmless_runner,
    is_artifact,
    open_artifact,
    write_manifest,
)
from harmless_runtime.model.load import build_engine, falls_back_to_cpu
from harmless_runtime.model.providers import choose_provider, target_on
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import PairTokenizer

logger = logging.getLogger(__name__)


def verify_artifact(
    artifact: Artifact | str | Path,
    *,
    checkpoint: str | None = None,
    provider: ProviderChoice = "auto",
    device: int = 0,
    compute: ComputeChoice = "auto",
    parity_limit: float | None = None,
    allow_pickle: bool = False,
) -> Artifact:
    """Measure an artifact's parity again, and store it in the artifact's `scorer.json`.

    Args:
        artifact: an artifact folder, or an opened artifact.
        checkpoint: where its checkpoint is, if not where the manifest says.
        provider: the execution provider.
        device: number of the CUDA device.
        compute: what OpenVINO computes in.
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
    config = make_config({"provider": provider, "device": device, "compute": compute})
    target = target_on(choose_provider(provider, manifest.precision, device), config)
    source = checkpoint_of(artifact, checkpoint, allow_pickle=allow_pickle)
    return record_parity(artifact, source, [target], requested=provider, parity_limit=parity_limit)


def record_parity(
    artifact: Artifact,
    checkpoint: Checkpoint,
    targets: Sequence[Target],
    *,
    requested: ProviderChoice,
    parity_limit: float | None = None,
) -> Artifact:
    """Compare an artifact with its checkpoint, and write the reports into `scorer.json`.

    A report replaces an earlier one of the same runner.

    Args:
        artifact: the artifact.
        checkpoint: the checkpoint.
        targets: where to run the artifact. It has to pass on the first. If it does not run or does
            not pass on another one, a warning tells why that has no report.
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
    comparison = Comparison(artifact, pairs, truth, parity_limit)
    first, *others = targets
    try:
        reports = comparison.on(first)
    except SessionError as error:
        on_gpu = first.provider == "cuda"
        if not (on_gpu and falls_back_to_cpu(error, requested, manifest.precision)):
            raise
        reports = comparison.on(Target("cpu"))
    for other in others:
        try:
            reports += comparison.on(other)
        except Exception as error:  # a plug-in that fails in any way does not fail an export
            why = error.with_hint if isinstance(error, HarmlessError) else one_line(error)
            logger.warning("the report has no column for %s: %s", other.name, why)
    if is_artifact(artifact.folder):  # another process may have measured meanwhile
        manifest = open_artifact(artifact.folder, check_files=False).manifest
    new = {report.runner: report for report in reports}
    spread = reports[0].score_std  # reports against another checkpoint have another one
    same = [r for r in manifest.parity if math.isclose(r.score_std, spread, rel_tol=1e-6)]
    kept = [new.pop(report.runner, report) for report in same]
    reference = manifest.reference
    if reference is None or first.provider != "openvino":
        reference = comparison.reference()
    manifest = msgspec.structs.replace(
        manifest,
        parity=[*kept, *new.values()],
        parity_note="",
        reference=reference,
    )
    write_manifest(artifact.folder, manifest)
    return Artifact(artifact.folder, manifest)


@dataclass(frozen=True)
class Comparison:
    """Compares an artifact's scores with PyTorch's.

    Attributes:
        artifact: the artifact.
        pairs: the (Q, A) texts.
        truth: PyTorch's scores of them in fp32, float32 [len(pairs)].
        limit: the largest difference that passes, if not that of the precision.
    """

    artifact: Artifact
    pairs: Pairs
    truth: NDArray[np.float32]
    limit: float | None

    def on(self, target: Target) -> list[Parity]:
        """Return the reports of this project's session on a target, and of Optimum if it can run.

        Raises:
            ParityError: the largest difference exceeds the limit.
            SessionError: the artifact does not run there.
        """
        # The old reference is left out, because it is about to be measured again.
        unmeasured = Artifact(self.artifact.folder, self.artifact.manifest.unmeasured)
        engine = build_engine(unmeasured, target)
        logger.info("scoring %d texts with ONNX Runtime (%s)", len(self.pairs), target.name)
        scores = {harmless_runner(target.name): engine.score(engine.tokenizer.encode(self.pairs))}
        precision = engine.precision
        del engine  # so that only one model is in memory at a time
        if target.provider != "openvino":
            scores |= self._optimum(target)
        limit = LIMITS[precision] if self.limit is None else self.limit
        reports = [compare(runner, self.truth, other, limit) for runner, other in scores.items()]
        for report in reports:
            check_parity(report, precision)
        return reports

    def _optimum(self, target: Target) -> dict[str, NDArray[np.float32]]:
        obstacle = optimum_obstacle(target.provider)
        if obstacle is not None:
            logger.warning("the report has no column for Optimum, because %s", obstacle)
            return {}
        logger.info("scoring %d texts with Optimum", len(self.pairs))
        scores = optimum_scores(self.artifact, self.pairs, target.provider, target.device)
        return {f"optimum ({target.provider})": scores}

    def reference(self) -> Reference:
        """Return the first text as one whose score is known."""
        manifest = self.artifact.manifest
        longest = manifest.max_length
        tokenizer = PairTokenizer(self.artifact.tokenizer, longest, manifest.truncation_side)
        (encoded,) = tokenizer.encode(self.pairs[:1])
        limit = LIMITS[manifest.precision] if self.limit is None else self.limit
        tolerance = limit * float(self.truth.std())
        return Reference(encoded.ids.tolist(), float(self.truth[0]), tolerance)


def check_parity(report: Parity, precision: Precision) -> None:
    """Raise ParityError if the largest difference exceeds the limit, or is not a number.

    Args:
        report: what was measured.
        precision: what the scores were computed in.
    """
    if report.relative <= report.limit:
        return
    advice = {
        "fp32": "this is not rounding: unless the checkpoint is another one, do not use the "
        "artifact, and report it",
        "fp16": "the model may overflow in fp16: export in bf16 or fp32",
        "bf16": "this model loses too much in bf16: use fp32, or fp16 on a GPU",
        "int8": "this model loses too much in int8: export in fp32",
    }[precision]
    raise ParityError(
        f"{report.runner}: the largest difference from PyTorch fp32 is {report.max_abs:.3g}, or "
        f"{report.relative:.3g} of the scores' standard deviation, but {precision} may differ by "
        f"{report.limit:g}",
        f"{advice}; `parity_limit` allows more",
    )
