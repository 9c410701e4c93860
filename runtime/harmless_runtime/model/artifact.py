"""The artifact folder: what an export leaves behind and all that scoring needs."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harmless_runtime.config import Precision
from harmless_runtime.errors import ArtifactError

FORMAT_VERSION = 1
MANIFEST = "scorer.json"
MODEL = "model.onnx"
WEIGHTS = "model.onnx.data"
TOKENIZER = "tokenizer.json"
# More tokens a row than any GPT-2 has positions: buffers are sized by it.
_LONGEST = 2**20


class Parity(msgspec.Struct, frozen=True):
    """How far one way of running the artifact is from PyTorch fp32 on the same texts.

    Differences are in units of the score. `relative` is `max_abs / score_std`, the figure that
    is held against `limit`. `reordered` counts the pairs of texts, out of `pairs`, whose order
    by score is not PyTorch's.
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


class Reference(msgspec.Struct, frozen=True):
    """A bundled text that a device is tried with before it is trusted.

    `ids` are the text's token ids, `score` is PyTorch's in fp32, and `tolerance` is how far the
    artifact's own score may be from it: the parity limit in units of the score.
    """

    ids: list[int]
    score: float
    tolerance: float


class Manifest(msgspec.Struct, frozen=True):
    """The content of `scorer.json`.

    `parameters` counts the weights of the model; `files` maps each other file of the folder to
    its SHA-256 in hexadecimal; `parity_note` says why `parity` is empty, if it is. `reference` is
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
    parity: list[Parity] = []
    parity_note: str = ""
    reference: Reference | None = None

    @property
    def unmeasured(self) -> "Manifest":
        """The same manifest without what `harmless verify` measures again."""
        return msgspec.structs.replace(self, parity=[], parity_note="", reference=None)


class _Header(msgspec.Struct):
    format_version: int


@dataclass(frozen=True)
class Artifact:
    """A folder whose manifest was read and whose files were found to be those it lists."""

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The ONNX graph; its weights lie beside it in `model.onnx.data`."""
        return self.folder / MODEL

    @property
    def tokenizer(self) -> Path:
        """The `tokenizers` library's own serialisation of the tokenizer."""
        return self.folder / TOKENIZER


def is_artifact(folder: Path) -> bool:
    """Tell whether a folder claims to be an artifact (it may still fail to open)."""
    return (folder / MANIFEST).is_file()


def open_artifact(folder: Path, *, check_files: bool = True) -> Artifact:
    """Read and check an artifact: the manifest, and the SHA-256 of every file that it lists.

    Hashing takes well under a second a gigabyte where the processor has SHA instructions. Without
    `check_files`, the files are only looked for. A file that has another name elsewhere, a hard
    link, could be changed from there, and is refused with the rest.

    Raises:
        ArtifactError: no manifest, a manifest of another format or out of range, or a file that
            is missing or is not the one that was exported.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} is not an artifact: it has no {MANIFEST} "
            "(make one with `harmless export MODEL -o DIR`)"
        ) from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    manifest = _decode(path, raw)
    required = {MODEL, WEIGHTS, TOKENIZER}
    if missing := required - manifest.files.keys():
        raise ArtifactError(f"{path} does not list {', '.join(sorted(missing))}")
    for name in manifest.files:
        if Path(name).name != name or "\0" in name or (folder / name).is_symlink():
            raise ArtifactError(f"{path} lists {name!r}, which is not a plain file of the folder")
    for name, expected in manifest.files.items():
        try:
            status = (folder / name).stat()
        except OSError:
            raise ArtifactError(f"the artifact is incomplete: {folder / name} is missing") from None
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{folder / name} is not a plain file")
        if check_files and status.st_nlink > 1:
            raise ArtifactError(
                f"{folder / name} has {status.st_nlink} hard links, so it can be changed by "
                "another name: copy the artifact, or pass --no-check-files"
            )
        if check_files and sha256_of(folder / name) != expected:
            raise ArtifactError(
                f"{folder / name} is not the file that was exported (its SHA-256 differs): "
                "export or copy the artifact again"
            )
    return Artifact(folder, manifest)


def _decode(path: Path, raw: bytes) -> Manifest:
    try:
        version = msgspec.json.decode(raw, type=_Header).format_version
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format version {version}, and this release reads "
                f"{FORMAT_VERSION}: update harmless-scorer or export again"
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
    """Write `scorer.json`, in place of an older one if there is one, in a single step."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_bytes(text + b"\n")
    temporary.replace(folder / MANIFEST)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        ArtifactError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ArtifactError(f"the artifact is incomplete: {path} is missing") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
