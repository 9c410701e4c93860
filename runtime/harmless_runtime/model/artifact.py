"""Open and check an artifact folder. An export makes the folder, and scoring needs nothing else."""

import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harmless_runtime.choices import Precision, TruncationSide
from harmless_runtime.errors import ArtifactError
from harmless_runtime.model.file_hash import HashCheck, check_hash

FORMAT_VERSION = 2
# Version 1 has no `truncation_side`, because all its tokenizers cut on the right.
_READ_VERSIONS = (1, 2)
MANIFEST = "scorer.json"
MODEL = "model.onnx"
WEIGHTS = "model.onnx.data"
TOKENIZER = "tokenizer.json"
# More positions than any GPT-2 has. A damaged manifest must not make buffers enormous.
_LONGEST = 2**20


class Parity(msgspec.Struct, frozen=True):
    """How far an artifact's scores are from PyTorch's in fp32, on the same texts.

    Differences are in units of the score. `runner` names what ran the artifact. `relative` is
    `max_abs / score_std`, and has to be at most `limit`. `reordered` is the number of pairs of
    texts, out of `pairs`, that the artifact's scores put in another order than PyTorch's.
    """

    runner: str
    texts: int
    score_std: float
    max_abs: float
    mean_abs: float
    relative: float
    limit: float
    pearson: float
    spearman: float
    reordered: int
    pairs: int


def harmless_runner(name: str) -> str:
    """Return the name of this project's session in parity reports, from `Target.name`."""
    return f"harmless ({name})"


class Reference(msgspec.Struct, frozen=True):
    """A bundled text with a known score. A GPU is tried with this text before its first run.

    `ids` are the text's token ids. `score` is PyTorch's in fp32. The artifact's own score may
    differ from it by `tolerance`, which is the parity limit in units of the score.
    """

    ids: list[int]
    score: float
    tolerance: float


class Manifest(msgspec.Struct, frozen=True):
    """The content of `scorer.json`.

    `parameters` is the number of the model's weights. A text that is too long loses tokens on its
    `truncation_side`. `files` maps each other file of the folder to
    its SHA-256 in hexadecimal. If `parity` is empty, `parity_note` says why. `reference` is
    measured together with `parity`.
    """

    format_version: int
    source: str
    revision: str | None
    precision: Precision
    max_length: int
    pad_token_id: int
    vocab_size: int
    parameters: int
    opset: int
    versions: dict[str, str]
    files: dict[str, str]
    truncation_side: TruncationSide = "right"
    parity: list[Parity] = []
    parity_note: str = ""
    reference: Reference | None = None

    def parity_on(self, name: str) -> Parity | None:
        """Return this project's report on a provider, by `Target.name`, or None."""
        return next((r for r in self.parity if r.runner == harmless_runner(name)), None)

    @property
    def unmeasured(self) -> "Manifest":
        """The manifest without the figures that `harmless verify` measures."""
        return msgspec.structs.replace(self, parity=[], parity_note="", reference=None)


class _Header(msgspec.Struct):
    format_version: int


@dataclass(frozen=True)
class Artifact:
    """A folder whose manifest was read, and which has the files that the manifest lists.

    `weights_check` is None if the weights were compared with their hash already, or need not be.
    """

    folder: Path
    manifest: Manifest
    weights_check: HashCheck | None = field(default=None, compare=False, repr=False)

    @property
    def model(self) -> Path:
        """Path of the ONNX graph. Its weights are beside it, in `model.onnx.data`."""
        return self.folder / MODEL

    @property
    def tokenizer(self) -> Path:
        """Path of the tokenizer, in the format of the `tokenizers` library."""
        return self.folder / TOKENIZER

    def check(self) -> None:
        """Wait until the weights are compared with their hash.

        Raises:
            ArtifactError: they are not those that were exported.
        """
        if self.weights_check is not None:
            self.weights_check.wait()


def is_artifact(folder: Path) -> bool:
    """Return whether a folder claims to be an artifact. It may still fail to open."""
    return (folder / MANIFEST).is_file()


def open_artifact(
    folder: Path, *, check_files: bool = True, weights_later: bool = False
) -> Artifact:
    """Read the manifest of an artifact, and compare every file with its SHA-256.

    Hashing takes well under a second per gigabyte if the processor has SHA instructions. A file
    with a second hard link is refused, because it can be changed under its other name.

    Args:
        folder: the artifact.
        check_files: if False, files are neither hashed nor checked for second hard links.
        weights_later: hash the weights while they are loaded. Nothing that they give may be used
            before `Artifact.check`.

    Raises:
        ArtifactError: the manifest is missing, invalid or of another format version, or a file is
            missing, is no plain file, or differs from what was exported.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} is not an artifact: it has no {MANIFEST}",
            "make one with harmless export",
        ) from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    manifest = _decode(path, raw)
    required = {MODEL, WEIGHTS, TOKENIZER}
    if missing := required - manifest.files.keys():
        raise ArtifactError(f"{path} does not list {', '.join(sorted(missing))}")
    # Links are followed, and not kept.
    copy = f"copy the artifact to a folder of its own: cp -rL {shlex.quote(str(folder))} COPY"
    for name in manifest.files:
        if Path(name).name != name or "\0" in name:
            raise ArtifactError(f"{path} lists {name!r}, which is not a plain file in its folder")
        if (folder / name).is_symlink():
            raise ArtifactError(
                f"{folder / name} is a symbolic link, as in the cache of the Hugging Face hub, so "
                "it can be changed under another name",
                copy,
            )
    for name, expected in manifest.files.items():
        try:
            status = (folder / name).stat()
        except OSError:
            raise ArtifactError(f"the artifact is incomplete: {folder / name} is missing") from None
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{folder / name} is not a plain file")
        if check_files and status.st_nlink > 1:
            raise ArtifactError(
                f"{folder / name} has {status.st_nlink} hard links, so it can be changed under "
                "another name",
                copy,
            )
        if check_files and not (weights_later and name == WEIGHTS):
            check_hash(folder / name, expected)
    if check_files and weights_later:
        return Artifact(folder, manifest, HashCheck(folder / WEIGHTS, manifest.files[WEIGHTS]))
    return Artifact(folder, manifest)


def _decode(path: Path, raw: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(raw, type=_Header).format_version
        if version not in _READ_VERSIONS:
            raise ArtifactError(
                f"{path} has format version {version}, and this release reads versions up to "
                f"{FORMAT_VERSION}",
                "update harmless-scorer, or export again",
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a valid manifest: {error}") from error
    reference = manifest.reference.ids if manifest.reference else [0]
    if not (reference and all(0 <= i < manifest.vocab_size for i in reference)):
        raise ArtifactError(f"{path} is not a valid manifest: reference.ids are {reference!r:.80}")
    if not (
        1 <= manifest.max_length <= _LONGEST
        and 0 <= manifest.pad_token_id < manifest.vocab_size
        and manifest.parameters >= 1
    ):
        raise ArtifactError(
            f"{path} is not a valid manifest: max_length {manifest.max_length}, "
            f"pad_token_id {manifest.pad_token_id}, vocab_size {manifest.vocab_size}, "
            f"parameters {manifest.parameters}"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `scorer.json` in a single step, so that it is never there in part."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_bytes(text + b"\n")
    temporary.replace(folder / MANIFEST)
