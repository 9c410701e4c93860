"""Load the engine that a configuration asks for."""

import logging
import time
from dataclasses import replace
from functools import cached_property

from harmless_runtime import bundled
from harmless_runtime.choices import DEFAULT_MODELS, PrecisionChoice, ProviderChoice
from harmless_runtime.config import ScorerConfig, make_config
from harmless_runtime.errors import (
    ConfigError,
    HarmlessError,
    OutOfMemoryError,
    SessionError,
)
from harmless_runtime.model import openvino
from harmless_runtime.model.artifact import Artifact, open_artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.gpu_memory import MOST_TOKENS
from harmless_runtime.model.on_cuda import (
    graph_runner,
    limits_of,
    prepare_session,
    room_for_batches,
)
from harmless_runtime.model.processor import this_processor
from harmless_runtime.model.providers import choose_provider, target_on
from harmless_runtime.model.resolve import CheckpointName, cached_export, resolve
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import PairTokenizer

logger = logging.getLogger(__name__)


def load_engine(config: ScorerConfig, *, for_many_rows: bool = False) -> Engine:
    """Load the model that the configuration names. Export a checkpoint that has no cached export.

    Args:
        config: the settings.
        for_many_rows: run as many batches at once as gives most rows a second, unless `streams`
            says how many. Otherwise one batch runs at a time, which gives the first rows soonest.

    Raises:
        ConfigError: a setting does not fit the artifact, or a checkpoint cannot be exported here.
        ArtifactError, CheckpointError, OutputError, ParityError, SessionError: as opening,
            exporting and loading raise them.
    """
    model = resolve(config.model, check_files=config.check_files)
    if isinstance(model, CheckpointName):
        provider = choose_provider(config.provider, config.precision, config.device)
        target_on(provider, config)  # what cannot work is refused before the export
        precision = config.precision
        if precision == "auto":
            precision = "fp16" if provider == "cuda" else "fp32"
        artifact = cached_export(model, precision, config)
    else:
        artifact = open_artifact(model.path, check_files=model.check_files, weights_later=True)
        precision = artifact.manifest.precision
        if config.precision not in ("auto", precision):
            raise ConfigError(
                f"precision is {config.precision!r}, but {artifact.folder} is {precision}",
                "leave `precision` out, or name the checkpoint as `model`",
            )
        provider = choose_provider(config.provider, precision, config.device)
    target = target_on(provider, config, for_many_rows=for_many_rows)
    if provider == "cpu" and config.provider == "auto" and precision == "fp32":
        _tell_of_amx()
    start = time.perf_counter()
    try:
        engine = build_engine(artifact, target, config)
    except SessionError as error:
        artifact.check()  # damaged weights may be the reason
        if provider != "cuda" or not falls_back_to_cpu(error, config.provider, precision):
            raise
        # If `precision` is auto, the second call exports a checkpoint in fp32, which suits CPUs.
        on_cpu = config.model_copy(update={"provider": "cpu"})
        return load_engine(on_cpu, for_many_rows=for_many_rows)
    if provider == "openvino":
        _tell_openvino(artifact, target)
    logger.debug(
        "loaded %s in %.2f s: %s, %d batches at once, of at most %d tokens",
        artifact.folder,
        time.perf_counter() - start,
        target,
        target.streams,
        engine.limits.batch_tokens,
    )
    if precision != "fp32" and isinstance(model, CheckpointName):
        engine = replace(engine, fp32_fallback=Fp32Fallback(config).engine)
    if provider == "cuda" and not for_many_rows and config.gpu_memory is None:
        engine = replace(engine, few_rows=graph_runner(engine))
    return engine


def _tell_openvino(artifact: Artifact, target: Target) -> None:
    """Log what the model is computed in, and whether it is known how far that is from PyTorch."""
    logger.info("running in %s through OpenVINO on %s", target.compute, this_processor())
    is_bundled = artifact.folder == bundled.MODEL  # it is far too small to judge anyway
    if artifact.manifest.parity_on(target.name) is None and not is_bundled:
        logger.warning(
            "it is not known how far scores from OpenVINO in %s are from PyTorch's, because that "
            "was not measured for this artifact: run harmless verify %s --provider openvino "
            "--compute %s",
            target.compute,
            artifact.folder,
            target.compute,
        )


def _tell_of_amx() -> None:
    """Log what another provider would gain on this processor, and what it would cost."""
    if not this_processor().has_amx:
        return
    logger.info(
        "this processor has AMX, which multiplies in bf16 several times as fast as in fp32. "
        "`provider` openvino uses it%s. Its scores in bf16 are further from PyTorch's: harmless "
        "export and harmless verify measure by how much",
        "" if openvino.is_installed() else f" ({openvino.INSTALL})",
    )


class Fp32Fallback:
    """Loads an engine of the same checkpoint in fp32, when a row first needs it and only once."""

    def __init__(self, config: ScorerConfig) -> None:
        self._config = config.model_copy(update={"precision": "fp32"})

    @cached_property
    def _engine(self) -> Engine | None:
        try:
            return replace(load_engine(self._config), few_rows=None)
        except HarmlessError as error:  # a row without a score does not end a run
            logger.warning("cannot score in fp32: %s", error.with_hint)
            return None

    def engine(self) -> Engine | None:
        """Return the engine, or None if it cannot be loaded."""
        return self._engine


def falls_back_to_cpu(
    error: SessionError, requested: ProviderChoice, precision: PrecisionChoice
) -> bool:
    """Return whether to use the CPU instead of a GPU that cannot run the model, and log why.

    The answer is yes only if the provider is `auto` and the CPU can run the precision. A lack of
    GPU memory is no reason: others may be using the GPU, and a run on the CPU takes far longer.
    """
    if requested != "auto" or precision == "bf16" or isinstance(error, OutOfMemoryError):
        return False
    logger.warning("running on the CPU, because %s", error.with_hint)
    return True


_DEFAULTS = make_config({})


def build_engine(
    artifact: Artifact,
    target: Target,
    config: ScorerConfig = _DEFAULTS,
    limits: Limits | None = None,
) -> Engine:
    """Load an opened artifact, and try it if it runs on a GPU.

    Args:
        artifact: what to load.
        target: where to run it.
        config: settings, of which `batch_size` and `max_length` are used.
        limits: the limits of batches and windows, if not those that follow from the settings.

    Raises:
        ConfigError: a setting does not fit the artifact.
        ArtifactError, SessionError: as the tokenizer, the session and its trial raise them.
    """
    manifest = artifact.manifest
    longest = config.max_length or manifest.max_length
    if longest > manifest.max_length:
        raise ConfigError(
            f"max_length {longest} exceeds the {manifest.max_length} of {artifact.folder}",
            f"lower `max_length` to {manifest.max_length}, or leave it out",
        )
    if limits is None:
        limits = limits_of(artifact, target, config, longest)
    tokenizer = PairTokenizer(artifact.tokenizer, longest, manifest.truncation_side)
    # The ids of a batch take little memory. A resumed run may need larger batches.
    most = MOST_TOKENS if limits.is_derived else limits.batch_tokens
    room = room_for_batches(artifact, target, longest)
    session = Session(artifact, target, max(most, longest))
    if target.provider == "cuda":
        prepare_session(session, artifact, limits.batch_tokens, longest, room)
    # An export of a scorer's own model is that scorer's, whichever is asked for.
    own = {model: name for name, model in DEFAULT_MODELS.items()}
    scorer = own.get(manifest.source, config.name)
    return Engine(artifact, tokenizer, session, limits, scorer=scorer)
