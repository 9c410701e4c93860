"""Read a text that a chat template has written back into its turns.

A text is read only if it is wholly turns of one template: words before, between or after them make
it a text like any other. Each template is a few lines of the table `_FAMILIES`.
"""

import re
from dataclasses import dataclass, field

from harmless_runtime.rows.conversations import Turn, is_answer

# The tokens that models and tokenizers write at the end of a text, or to make it longer.
_ENDS = frozenset({
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>",
    "<|eom|>", "<|end|>", "<|return|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<|EOT|>",
    "<end_of_turn>", "<turn|>", "<eos>", "</s>", "<｜end▁of▁sentence｜>",
    "<pad>", "<|pad|>", "<｜▁pad▁｜>", "<|finetune_right_pad_id|>", "<|finetune_right_pad|>",
})  # fmt: skip
_BEGINS = {"<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>"}
# Padding may stand on the left too.
_BEGIN = rf"\s*+(?:(?:{'|'.join(map(re.escape, sorted(_BEGINS | _ENDS)))})\s*+)*+"
_AROUND = re.compile(_BEGIN)
_DEEPSEEK = "<｜begin▁of▁sentence｜>"

# A template writes an empty thought where the model is not to think.
_NO_THOUGHT = re.compile(r"(?:<think>\s*+</think>|<\|channel>thought\n<channel\|>)(?:\n\n?)?")


@dataclass(frozen=True)
class _Form:
    """How a template writes the turns of one role, or of all.

    Attributes:
        head: what a turn begins with. Its first group is the role, unless `role` is given.
        lead: what stands between the head and the content.
        end: what ends the turn, or a look at what follows it.
        role: the role.
        tail: what stands between the content and the end, if the lead is there.
    """

    head: re.Pattern[str]
    lead: re.Pattern[str]
    end: re.Pattern[str]
    role: str | None
    tail: str

    def content(self, raw: str, role: str, is_ended: bool) -> str:
        """Return the content of a turn from what stands between its head and its end, if any."""
        lead = self.lead.match(raw)
        start = lead.end() if lead else 0
        text = raw[start:]
        if is_ended and (start or not self.lead.pattern):
            text = text.removesuffix(self.tail)
        if role == "assistant" and (thought := _NO_THOUGHT.match(text)):
            text = text[thought.end() :]
        return text


@dataclass(frozen=True)
class _Family:
    """A chat template, or several whose texts are read alike."""

    name: str
    begin: re.Pattern[str]
    forms: tuple[_Form, ...]


def _form(head: str, lead: str, end: str, role: str | None = None, tail: str = "") -> _Form:
    return _Form(re.compile(head), re.compile(lead), re.compile(end), role, tail)


def _family(name: str, *forms: _Form, begin: str = "") -> _Family:
    return _Family(name, re.compile(_BEGIN + begin), forms)


_FAMILIES = (
    _family("ChatML", _form(r"\s*+<\|im_start\|>(\w{1,40})", r"\n", r"<\|im_end\|>")),
    _family("Phi-4", _form(r"\s*+<\|im_start\|>(\w{1,40})<\|im_sep\|>", "", r"<\|im_end\|>")),
    _family(
        "Llama 3",
        _form(
            r"\s*+<\|start_header_id\|>(\w{1,40})<\|end_header_id\|>",
            r"\n\n",
            r"<\|eot_id\|>|<\|eom_id\|>",
        ),
    ),
    _family(
        "Llama 4",
        _form(r"\s*+<\|header_start\|>(\w{1,40})<\|header_end\|>", r"\n\n", r"<\|eot\|>|<\|eom\|>"),
    ),
    _family("Gemma", _form(r"\s*+<start_of_turn>(\w{1,40})", r"\n", "<end_of_turn>")),
    _family("Gemma 4", _form(r"\s*+<\|turn>(\w{1,40})", r"\n", r"<turn\|>")),
    _family(
        "Phi-3",
        _form(r"\s*+<\|(system|user|assistant|tool)\|>", r"[\n ]?", r"<\|end\|>"),
    ),
    _family("Zephyr", _form(r"\s*+<\|(system|user|assistant)\|>", r"\n", "</s>")),
    # Some versions put a space on each side of a content, some before it, and some none.
    _family(
        "Llama 2 or Mistral",
        _form(r"\s*+(?:<s>\s*+)?\[INST\] <<SYS>>\n", "", r"\n<</SYS>>\n\n", "system"),
        _form(r"(?<=\n<</SYS>>\n\n)", "", r"(?=\[/INST\])", "user", " "),
        _form(r"\s*+\[SYSTEM_PROMPT\]", " ?", r"\[/SYSTEM_PROMPT\]", "system", " "),
        _form(r"\s*+(?:<s>\s*+)?\[INST\]", " ?", r"(?=\[/INST\])", "user", " "),
        _form(r"\[/INST\]", " ?", "</s>", "assistant", " "),
    ),
    _family(
        "DeepSeek",
        _form(
            rf"(?<={_DEEPSEEK})(?!<｜(?:User|Assistant)｜>|User:)", "", "(?=<｜User｜>)", "system"
        ),
        _form(r"\s*+<｜User｜>", "", r"(?=<｜Assistant｜>|<｜User｜>|\Z)", "user"),
        # Version 3.1 ends an empty thought that it has not begun.
        _form("<｜Assistant｜>", "(?:</think>)?", "<｜end▁of▁sentence｜>", "assistant"),
        begin=rf"(?:{_DEEPSEEK})*+",
    ),
    _family(
        "DeepSeek 2",
        _form(rf"(?<={_DEEPSEEK})(?!User:)", "", r"\n\n(?=User:)", "system"),
        _form("User:", " ?", r"\n\n(?=Assistant:|User:|\Z)", "user"),
        _form("Assistant:", " ?", "<｜end▁of▁sentence｜>", "assistant"),
        # The marks of later versions are never part of a content.
        begin=rf"(?:{_DEEPSEEK})++(?!(?s:.*)<｜User｜>)",
    ),
)
_ROLES = {"model": "assistant"}
_MAY_BEGIN = re.compile(
    r"\s*+(?:<(?:\||｜|/?s>|bos>|eos>|pad>|start_of_turn>)|\[(?:INST|SYSTEM_PROMPT)\])"
).match

# Every mark stands at the beginning of a line, so that a search only looks at what follows a line
# feed. Two of them are put before the text.
_MARK = re.compile(
    r"\n[ \t\r]*+(?:<s>|<bos>)?+(?:"
    r"<(?:\|[\w/▁-]{1,60}\|>|｜[\w/▁-]{1,60}｜>|\|turn>|turn\|>|(?:start|end)_of_turn>|<SYS>>)"
    r"|<(?:BOS_TOKEN>|extra_id_\d+>|reserved_10[67]>|seed:bos>|(?:human|bot)>:)|\]~!?b[\[\]]"
    r"|\[(?:/?INST|SYSTEM_PROMPT|gMASK|\|(?:system|user|assistant)\|)\]|\[Round \d+\](?=\n+问：)"
    r"|### (?:Instruction|Response|Human|Assistant|User|System):|GPT4 Correct User:"
    r"|\n[ \t]*+(?:Human|Assistant):|USER: (?<=\A\n\nUSER: )(?=(?s:.*)ASSISTANT:)"
    # A text that is turns as JSON or Python write them.
    r"|(?<=\A\n\n)\[\s*+\{\s*+[\"'](?:(?:role|from)[\"']\s*+:"
    r"|(?:content|value)[\"']\s*+:(?=(?s:.*)[\"'](?:role|from)[\"']\s*+:)))"
)
# The marks of it that hold neither <, ] nor #.
_SPEAKERS = ("Human:", "Assistant:", "USER:")


@dataclass(frozen=True)
class TemplateText:
    """What a text holds that is wholly turns of one chat template.

    Attributes:
        family: the name of the template, such as `ChatML`.
        turns: the turns, without an assistant turn that is open at the end.
        begun: what that turn holds so far, which is nothing after a generation prompt, or None.
    """

    family: str
    turns: tuple[Turn, ...]
    begun: str | None = None
    _form: _Form | None = field(default=None, repr=False, compare=False)
    _raw: str = field(default="", repr=False, compare=False)

    def continued(self, answer: str) -> str:
        """Return the answer that the text has begun, and that goes on with `answer`.

        It is without what the template writes around an answer, and without end tokens.
        """
        raw = self._raw + answer
        text = without_end(raw)
        if self._form is None:
            return text
        return self._form.content(text, "assistant", is_ended=len(text) < len(raw))


def read_template(text: str) -> TemplateText | None:
    """Return what a text holds that is wholly turns of a known chat template, or None."""
    if _MAY_BEGIN(text) is None:
        return None
    readings = [reading for family in _FAMILIES if (reading := _read(text, family))]
    # Two templates may share their heads: it is the one whose first turn ends first.
    return min(readings, key=_first_length, default=None)


def without_end(text: str) -> str:
    """Return a text without the tokens that end it, and without white space between and after."""
    if not text.rstrip().endswith(">"):
        return text
    struck = max(text.rfind("<s>"), text.rfind("<s "))
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        start = max(text.rfind("<", 0, last), 0)
        token = text[start:last]
        # In HTML, </s> ends what is struck out. At the very beginning, <s> is the begin token.
        is_html = token == "</s>" and struck > max(0, text.rfind("</s>", 0, start))
        if token not in _ENDS or is_html:
            return text[:end]
        end = start


def marks_in(text: str) -> str | None:
    """Return the first mark of a template at the beginning of the text or of a line, or None.

    Marks of all templates count, also of those that are not read. Words such as `Human:` count only
    where a template writes them. So do the first characters of turns that are written as JSON.
    """
    found = _MARK.search("\n\n" + text)
    if found:
        return found[0].strip()
    # Vicuna's template has its marks within a line, after a system text.
    return "USER:" if "USER:" in text and text.rstrip().endswith("ASSISTANT:") else None


def are_words(one: str, other: str) -> bool:
    """Return whether two texts surely hold no mark and no end token, which is so for most texts.

    A look for a single character takes a hundredth of a microsecond, and one for a word ten times
    as long, so that words are only looked for if there is a colon.
    """
    return not (
        "<" in one or "]" in one or "#" in one or (":" in one and _may_speak(one))
        or "<" in other or "]" in other or "#" in other or (":" in other and _may_speak(other))
    )  # fmt: skip


def _may_speak(text: str) -> bool:
    """Return whether a text may have marks that are words."""
    return (
        text.lstrip().startswith(_SPEAKERS)
        or "ASSISTANT:" in text
        or ("\n" in text and ("Human:" in text or "Assistant:" in text))
    )


def _first_length(reading: TemplateText) -> int:
    return len(str(reading.turns[0].content)) if reading.turns else 0


def _read(text: str, family: _Family) -> TemplateText | None:
    begin = family.begin.match(text)
    if begin is None:
        return None
    place = begin.end()
    turns: list[Turn] = []
    while (begun := _turn_at(text, place, family)) is not None:
        form, role, start = begun
        end = form.end.search(text, start)
        if end is None:
            if not is_answer(Turn(role=role)):
                return None
            raw = without_end(text[start:])
            content = form.content(raw, role, is_ended=False)
            return TemplateText(family.name, tuple(turns), content, form, raw)
        content = form.content(text[start : end.start()], role, is_ended=True)
        turns.append(Turn(role=role, content=content))
        place = end.end()
    if not turns or _AROUND.fullmatch(text, place) is None:
        return None
    return TemplateText(family.name, tuple(turns))


def _turn_at(text: str, place: int, family: _Family) -> tuple[_Form, str, int] | None:
    """Return the form of the turn that begins at a place, its role, and where its head ends."""
    for form in family.forms:
        if head := form.head.match(text, place):
            # A generation prompt may have lost the white space at its end.
            if head.end() < len(text) and form.lead.match(text, head.end()) is None:
                return None
            role = form.role or head[1]
            return form, _ROLES.get(role, role), head.end()
    return None
