"""Say which fields of a row hold its texts, and recognise that from the first rows."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harmless_runtime.choices import FormatName, Side, SpeakerRole, SystemChoice
from harmless_runtime.config import LINE_BYTES, ScorerConfig
from harmless_runtime.errors import ConfigError
from harmless_runtime.rows.dialogues import read_whole

# What msgspec does not take in the name of a field.
_NOT_IN_PATHS = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
# Another name that the field of a system text has.
_OTHER_SYSTEM = "system_prompt"
# What `columns` may name.
TARGETS = ("instruction", "input", "output", "rejected", "messages", "history", "system", "id")
# What it may name within each turn.
IN_TURNS = ("role", "content")
# Those of them that a row of messages has not.
_SINGLE = {"instruction", "input", "output", "history"}


@dataclass(frozen=True)
class Shape:
    """The path of each field that matters: a name, or names joined by dots, such as `data.0.text`.

    A field whose name has dots itself is meant by the same path, and comes first.

    Either `messages` is named, a list of turns; or `output`, and the `instruction` before it. With
    `output` alone, that field holds a whole conversation in one text. `input`, `id`, `history` and
    `system` may be missing in a row. A row may have `system_prompt` in place of `system`.

    If `rejected` is named, a row is a preference pair: two texts that are scored, of which `output`
    is the chosen response. `side` is set in the shapes of these single texts.

    `role` and `content` are names within each turn, of the speaker and of the text. They are no
    paths. None stands for the usual names.
    """

    name: str
    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    messages: str | None = None
    id: str = "id"
    history: str | None = "history"
    system: str | None = "system"
    rejected: str | None = None
    side: Side | None = None
    role: str | None = None
    content: str | None = None

    @property
    def sides(self) -> list["Shape"]:
        """The shapes of the texts that a row holds: one, or those of a preference pair."""
        if self.rejected is None:
            return [self]
        chosen = replace(self, rejected=None, side="chosen")
        return [chosen, replace(chosen, output=self.rejected, side="rejected")]

    @property
    def needed(self) -> list[str]:
        """The paths that a row has to have."""
        paths = (self.messages, self.instruction, self.output, self.rejected)
        return [path for path in paths if path]

    @property
    def paths(self) -> dict[str, str]:
        """The paths of all fields, by what they are for."""
        paths = {target: path for target in TARGETS if (path := getattr(self, target))}
        if self.instruction is None:
            paths.pop("history", None)
        if self.system == "system" and _OTHER_SYSTEM not in paths.values():
            paths[_OTHER_SYSTEM] = _OTHER_SYSTEM
        return paths

    @property
    def roots(self) -> list[str]:
        """The fields of the row that the paths may begin with: the columns that have to be read."""
        paths = self.paths.values()
        return list(dict.fromkeys(name for path in paths for name in (path.split(".")[0], path)))

    def with_columns(self, columns: Mapping[str, Any]) -> "Shape":
        """Return the shape with other paths for some targets.

        A field that is named for a text is not read as the history or the system text as well.
        """
        usual = {t: None for t in ("history", "system") if getattr(self, t) in columns.values()}
        return replace(self, **{**usual, **columns})

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has the fields that it has to have."""
        return all(path in row or path.split(".")[0] in row for path in self.needed)

    def __str__(self) -> str:
        paths = ", ".join(
            path if path == target else f"{target}={path}"
            for target, path in self.paths.items()
            if path not in (_OTHER_SYSTEM, getattr(Shape, target, None)) or target == "id"
        )
        names = "".join(f", {name}={own}" for name in IN_TURNS if (own := getattr(self, name)))
        return f"{self.name} ({paths}{names})"


KNOWN: dict[FormatName, Shape] = {
    "alpaca": Shape("alpaca", "instruction", "input", "output"),
    "prompt-response": Shape("prompt-response", "prompt", output="response"),
    "prompt-completion": Shape("prompt-completion", "prompt", output="completion"),
    "question-answer": Shape("question-answer", "question", output="answer"),
    "messages": Shape("messages", messages="messages"),
    "sharegpt": Shape("sharegpt", messages="conversations"),
}
# The shapes of preference pairs, the last with dialogues as hh-rlhf has them.
PAIRS = (
    Shape("pairs", "prompt", output="chosen", rejected="rejected"),
    Shape("pairs", "instruction", "input", "chosen", rejected="rejected"),
    Shape("pairs", "question", output="chosen", rejected="rejected"),
    Shape("pairs of dialogues", output="chosen", rejected="rejected"),
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How the rows of an input are to be read.

    Attributes:
        format: the name of a known shape. None means that the shape is recognised.
        columns: paths by target, which replace those of the shape. See `Shape`.
        system: what becomes of the system texts of conversations.
        line_bytes: most bytes of a line, or of both texts of a row. A longer one is rejected.
        pairs: whether rows are preference pairs.
        as_is: whether a request that is a text is always taken as words, and the answer as it is,
            as the original scorer takes them. Systems and histories beside them are left out.
        refuse_marks: whether a row is rejected that has a mark of a chat template among its words.
        roles: the roles of speakers by their names, in lower case. They come before the usual ones.
    """

    format: FormatName | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    system: SystemChoice = "drop"
    line_bytes: int = LINE_BYTES
    pairs: bool = False
    as_is: bool = False
    refuse_marks: bool = False
    roles: Mapping[str, SpeakerRole] = field(default_factory=dict)

    @property
    def named_shape(self) -> Shape | None:
        """The shape, if the options name it wholly, so that nothing has to be recognised."""
        if self.format is not None:
            return KNOWN[self.format].with_columns(self.columns)
        shape = Shape("columns").with_columns(self.columns)
        if self.pairs:
            return shape if shape.output and shape.rejected else None
        if shape.messages or (shape.instruction and shape.output):
            return shape
        return None


def reading_of(config: ScorerConfig) -> Reading:
    """Return how a configuration wants rows to be read."""
    return Reading(
        config.format,
        config.columns,
        config.system,
        config.max_line_bytes,
        as_is=config.as_is,
        roles=config.roles,
    )


def check_columns(reading: Reading) -> None:
    """Raise ConfigError if `columns` names what cannot be named, or contradicts itself."""
    columns, allowed = reading.columns, nameable(reading)
    for target, path in columns.items():
        if target not in allowed:
            near = difflib.get_close_matches(target, allowed, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"columns names {target!r}, and can name only {', '.join(allowed)}{meant}"
            )
        if not path or not all(path.split(".")):
            raise ConfigError(f"columns gives {target} the path {path!r}, which has an empty name")
        if _NOT_IN_PATHS.search(path):
            raise ConfigError(
                f"columns gives {target} the path {path!r}, and no path may have quotes, "
                "backslashes, control characters or bytes that are not UTF-8",
                "give the field another name in the rows",
            )
    if "messages" in columns and set(columns) & _SINGLE:
        raise ConfigError(
            "columns names messages and single texts, and a row is read as one or the other"
        )


def nameable(reading: Reading) -> list[str]:
    """Return what `columns` can name: single texts or conversations, or preference pairs."""
    other = "messages" if reading.pairs else "rejected"
    return [target for target in (*TARGETS, *IN_TURNS) if target != other]


def check_distinct(shape: Shape) -> None:
    """Raise ConfigError if a shape has two texts in the same field."""
    targets: dict[str, str] = {}
    for target, path in shape.paths.items():
        if path in targets:
            raise ConfigError(
                f"the field {path} is named for {targets[path]} and for {target}",
                "`columns` names another field for one of them",
            )
        targets[path] = target
    if shape.role is not None and shape.role == shape.content:
        raise ConfigError(f"the field {shape.role} of a turn is named for role and for content")


def recognise(rows: Sequence[Any], reading: Reading) -> list[Shape]:
    """Return the shapes that fit at least one of some rows: those that fit most rows first.

    Args:
        rows: parsed rows, of which those that are not mappings are passed over.
        reading: its `columns` replace those of each shape.
    """
    columns = reading.columns
    candidates = []
    for shape in PAIRS if reading.pairs else KNOWN.values():
        if shape.messages and set(columns) & _SINGLE:
            continue
        candidates.append(shape.with_columns(columns))
    if "output" in columns and not reading.pairs:
        candidates.append(Shape("dialogue").with_columns(columns))
    fitting = {shape: sum(isinstance(r, Mapping) and shape.fits(r) for r in rows)
               for shape in candidates}  # fmt: skip
    if reading.pairs and "instruction" not in columns:
        # Whole dialogues are read as they are, whatever stands beside them as a prompt.
        dialogues = candidates[-1]
        if rows and all(isinstance(row, Mapping) and _is_two(row, dialogues) for row in rows):
            return [dialogues, *(s for s in candidates[:-1] if fitting[s])]
    # A field that a few pairs lack is no reason to leave the requests of all others out.
    weights = {shape: 2 if reading.pairs and shape.instruction else 1 for shape in candidates}
    return sorted(
        (shape for shape in candidates if fitting[shape]), key=lambda s: -fitting[s] * weights[s]
    )


def _is_two(row: Mapping[str, Any], shape: Shape) -> bool:
    """Return whether both texts of a preference pair are whole dialogues."""
    texts = [row.get(path) for path in shape.needed]
    return all(isinstance(text, str) and read_whole(text) is not None for text in texts)


def shape_in_memory(rows: Sequence[Any], reading: Reading) -> Shape:
    """Return the shape of rows that a caller hands over: the one named, or else one that fits.

    A scorer may be configured for files with other fields, and still be asked for a plain row.

    Args:
        rows: the first ones, of which those that are not mappings are passed over.
        reading: how rows are read.
    """
    named = reading.named_shape
    first = [row for row in rows if isinstance(row, Mapping)]
    if named is not None and (not first or any(map(named.fits, first))):
        return named
    shapes = recognise(first, reading) or recognise(first, Reading())
    return shapes[0] if shapes else named or KNOWN["alpaca"]
