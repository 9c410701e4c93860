"""Recognise files that are not what their names say, before a row of any input is scored.

The first bytes decide. A file that they show to hold no rows is refused, whatever its name is, and
a form that they show is read. Where they show neither, and the name says a form that has such a
beginning, the file is refused too.
"""

import codecs
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from harmless_runtime.errors import InputError
from harmless_runtime.rows import remote
from harmless_runtime.rows.compressed import beginning_of, decompressor_of

# Bytes of each file that are looked at. The mark of a tar archive stands at byte 257.
HEAD_BYTES = 512
# More of a compressed file whose first bytes give nothing: zstandard has blocks of this size.
_BLOCK_BYTES = 2**17
_FORMS = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")
# What names say that no text has to follow.
_TABLES = {".parquet": "Parquet", ".arrow": "Arrow", ".feather": "Arrow"}
_COMPRESSED = {
    ".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstandard", ".zstd": "zstandard",
}  # fmt: skip
# Bytes that no text holds. Others below 32 are line ends, tabs, and what sets colours.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_FILE = re.compile(r"\bFILE\b")
_AGAIN = "a download or a copy of it was not finished: fetch it again"
_PIPE = "unpack it, or score what is in it from standard input: {} FILE | harmless score - …"
_PARQUET = "make Parquet of it: python -c 'import sys; {}' FILE"
_ENCODING = "make another file of it: iconv -f {} -t UTF-8 FILE > NEW_FILE"


@dataclass(frozen=True)
class _Kind:
    """A kind of file that holds no rows.

    Attributes:
        begins: a regular expression of what it begins with. Blanks before a text do not count.
        what: what it is.
        hint: what to do. `FILE` stands for its name.
        is_in_place: whether servers send it in place of a file, at a URL that is nearly the file's.
    """

    begins: bytes
    what: str
    hint: str
    is_in_place: bool = False

    def has(self, head: bytes) -> bool:
        """Return whether a file that begins so is of this kind."""
        return re.match(self.begins, head, re.DOTALL) is not None


_TEXTS = (
    _Kind(
        rb"version https://git-lfs\.github\.com/spec/",
        "a pointer of Git LFS, and not the file that it stands for",
        "fetch the file: git lfs pull in its repository, or a Hugging Face URL with /resolve/ in "
        "place of /raw/",
        is_in_place=True,
    ),
    _Kind(
        rb"(\.\./)*(\.git)?/annex/objects/",
        "a pointer of git-annex, and not the file that it stands for",
        "fetch the file: git annex get FILE",
    ),
    _Kind(
        rb"(?i:<(!doctype\s+html|html|head|body)\b)",
        "an HTML page",
        "a server sent a page in place of the file: fetch it again, by a Hugging Face URL with "
        "/resolve/ in place of /blob/, or after logging in",
        is_in_place=True,
    ),
    _Kind(
        rb"(?i:<(\?xml|error>))",
        "XML, as object stores report errors",
        "see what it says, and fetch the file again",
    ),
    _Kind(rb"%PDF-\d", "a PDF document", "make JSON lines or CSV of its rows"),
)
_BINARIES = (
    _Kind(rb"\xff\xfe\0\0|\0\0\xfe\xff", "in UTF-32", _ENCODING.format("UTF-32")),
    _Kind(rb"\xff\xfe|\xfe\xff", "in UTF-16", _ENCODING.format("UTF-16")),
    _Kind(rb"([\t\r\n -~]\0){4}", "in UTF-16", _ENCODING.format("UTF-16LE")),
    _Kind(rb"(\0[\t\r\n -~]){4}", "in UTF-16", _ENCODING.format("UTF-16BE")),
    _Kind(
        rb"PK\x03\x04.{26}(\[Content_Types\]|_rels/|docProps/|xl/|mimetypeapplication/vnd\.oasis)"
        rb"|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a workbook",
        "save its sheet as CSV (UTF-8)",
    ),
    _Kind(
        rb"PK\x03\x04.{26}[^/\0]+\.npy|\x93NUMPY",
        "an array of NumPy",
        "make JSON lines of its rows",
    ),
    _Kind(rb"PK(\x03\x04|\x05\x06)", "a zip archive", _PIPE.format("unzip -p")),
    _Kind(rb".{257}ustar", "a tar archive", _PIPE.format("tar -xOf")),
    _Kind(rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _PIPE.format("7z x -so")),
    _Kind(rb"Rar!\x1a\x07", "a rar archive", _PIPE.format("unrar p -inul")),
    _Kind(rb"\x04\x22\x4d\x18", "compressed with lz4", _PIPE.format("lz4 -dc")),
    _Kind(rb"\xff\x06\0\0sNaPpY", "compressed with snappy", "decompress it first"),
    _Kind(rb"PARE", "encrypted Parquet", "write it again without encryption"),
    _Kind(
        rb"FEA1",
        "Feather of version 1",
        _PARQUET.format(
            "from pyarrow import feather, parquet; "
            'parquet.write_table(feather.read_table(sys.argv[1]), "NEW.parquet")'
        ),
    ),
    _Kind(
        rb"ORC",
        "ORC",
        _PARQUET.format(
            "from pyarrow import orc, parquet; "
            'parquet.write_table(orc.read_table(sys.argv[1]), "NEW.parquet")'
        ),
    ),
    _Kind(
        rb"\x89HDF\r\n\x1a\n",
        "HDF5",
        _PARQUET.format('import pandas; pandas.read_hdf(sys.argv[1]).to_parquet("NEW.parquet")'),
    ),
    _Kind(rb"Obj\x01", "Avro", "make JSON lines of it: fastavro FILE | harmless score - …"),
    _Kind(
        rb"SQLite format 3\0",
        "a database of SQLite",
        "make JSON of a table: sqlite3 -json FILE 'SELECT * FROM NAME' > NEW.json",
    ),
    _Kind(
        rb"\x80[\x02-\x05]",
        "a pickle of Python",
        "make JSON lines of its rows, if it is from somebody whom you trust",
    ),
    _Kind(rb"\0{8}", "zeros where it begins", _AGAIN),
)


def check_beginning(name: str, read: Callable[[int], bytes]) -> None:
    """Check a whole file by its first bytes, as they are stored.

    Args:
        name: a path or a URL.
        read: returns at most so many bytes, which follow those that it has returned before.

    Raises:
        InputError: as `check_contents`.
    """
    head = read(HEAD_BYTES)
    content = beginning_of(head, HEAD_BYTES)
    if content is None:
        content = beginning_of(head + read(_BLOCK_BYTES), HEAD_BYTES)
    if content is not None:  # and otherwise it is looked at when it is its turn
        check_contents(name, content, is_compressed=decompressor_of(head) is not None)


def check_contents(name: str, head: bytes, *, is_compressed: bool) -> None:
    """Check that a file can hold rows, and that it is what its name says.

    Args:
        name: a path or a URL. Standard input has none, and is called `-`.
        head: the first bytes of its content, after decompression.
        is_compressed: whether it was decompressed.

    Raises:
        InputError: it is something else. The message says what, and the hint what to do.
    """
    head = head[:HEAD_BYTES]
    is_text = _is_text(head)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    for kind in _TEXTS if is_text else _BINARIES:
        if kind.has(text if is_text else head):
            itself = _url_of_file(name) if kind.is_in_place else None
            hint = f"name the file itself: {itself}" if itself else _of_file(kind.hint, name)
            raise InputError(f"{name} is {kind.what}", hint)
    if is_compressed and head.startswith(b"PAR1"):
        raise InputError(f"{name} is Parquet in a compressed file", "decompress it first")
    if is_compressed and decompressor_of(head):
        raise InputError(f"{name} is compressed twice", "decompress it first")
    if head.startswith(_FORMS) or decompressor_of(head):
        return
    table = next((form for end, form in _TABLES.items() if plain_name(name).endswith(end)), None)
    if not text:
        packed = None if is_compressed else _compression(name)
        # Spark writes a part of JSON lines without rows.
        is_part = name.rsplit("/", 1)[-1].startswith("part-")
        if table or packed or (plain_name(name).endswith(".json") and not is_part):
            raise InputError(f"{name} is empty", _AGAIN)
    elif table is not None and is_text:
        is_json = text.startswith((b"{", b"["))
        raise InputError(
            f"{name} is {'JSON' if is_json else 'text'}, and not {table} as its name says",
            f"if it holds rows, give it a name that ends in {'.jsonl' if is_json else '.csv'}; if "
            "a server sent an error in place of the file, fetch it again",
        )
    # Text that a server or a browser has decompressed may keep its name.
    elif not is_text and (form := table or (None if is_compressed else _compression(name))):
        what = "of an unknown form" if _CONTROL.search(head) else "text in another encoding"
        raise InputError(
            f"{name} is {what}, and not {form} as its name says",
            _of_file(f"fetch it again; if it is text, {_ENCODING.format('WINDOWS-1252')}", name),
        )


def plain_name(name: str) -> str:
    """Return a file's name in lower case, without the suffix that says how it is compressed."""
    name = remote.path_of(name).lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _compression(name: str) -> str | None:
    """Return how a file is compressed by its name, or None."""
    name = remote.path_of(name).lower()
    return next((form for suffix, form in _COMPRESSED.items() if name.endswith(suffix)), None)


def _is_text(head: bytes) -> bool:
    """Return whether bytes are text in UTF-8, of which the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(head) is None


def _of_file(hint: str, name: str) -> str:
    """Return a hint with the name of a file in it."""
    if remote.is_remote(name) and _FILE.search(hint):
        return f"download it; then {hint}"
    return _FILE.sub(lambda _: shlex.quote(name), hint)


def _url_of_file(name: str) -> str | None:
    """Return the URL of a file where that of its page, or of its pointer, may have been given."""
    if not remote.is_remote(name):
        return None
    if re.match(r"https?://(www\.)?(github|gitlab)\.com/", name):
        itself = name.replace("/blob/", "/raw/", 1)
    else:
        itself = re.sub("/(blob|raw)/", "/resolve/", name, count=1)
    return itself if itself != name else None
