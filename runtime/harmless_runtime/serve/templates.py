"""Read the turns of a text that a chat template has written: ChatML, as Qwen has it, or Llama 3."""

import re
from dataclasses import dataclass

# The tokens that tokenizers add at the end of a text, or to make it longer.
_ENDS = (
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", "</s>", "<pad>",
)  # fmt: skip


class OutsideTurnError(ValueError):
    """A text has something outside of its turns."""


@dataclass(frozen=True)
class Template:
    """How a template writes a turn: its head, which names the role, and its end."""

    start: str
    head: re.Pattern[str]
    end: str


TEMPLATES = (
    Template("<|im_start|>", re.compile(r"\s*<\|im_start\|>(\w{1,40})\n"), "<|im_end|>"),
    Template(
        "<|start_header_id|>",
        re.compile(r"\s*<\|start_header_id\|>(\w{1,40})<\|end_header_id\|>\n\n"),
        "<|eot_id|>",
    ),
)
_BEGIN = re.compile(r"\s*(?:<\|begin_of_text\|>)?\s*")


def without_end(text: str) -> str:
    """Return a text without the tokens that end it, and without white space between and after."""
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        token = next((token for token in _ENDS if text.endswith(token, 0, last)), None)
        if token is None:
            return text[:end]
        end = last - len(token)


def template_of(text: str) -> Template | None:
    """Return the template of a text that begins with a turn, or None."""
    begun = _BEGIN.match(text)
    start = begun.end() if begun else 0
    return next((each for each in TEMPLATES if text.startswith(each.start, start)), None)


def turns_of(text: str, template: Template) -> list[dict[str, str]]:
    """Return the turns of a text, each with its role and its content. The last one may be open.

    Raises:
        OutsideTurnError: there is something before, between or after the turns.
    """
    begun = _BEGIN.match(text)
    place = begun.end() if begun else 0
    turns = []
    while (head := template.head.match(text, place)) is not None:
        end = text.find(template.end, head.end())
        is_open = end < 0
        content = text[head.end() : None if is_open else end]
        turns.append({"role": head[1], "content": without_end(content) if is_open else content})
        if is_open:
            return turns
        place = end + len(template.end)
    if without_end(text[place:]).strip():
        raise OutsideTurnError("it has text outside of the turns of its chat template")
    return turns
