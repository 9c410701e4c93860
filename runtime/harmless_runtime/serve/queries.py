"""Read the texts that trainers send: a dialogue, a prompt with its response, or a chat template."""

import re
from collections.abc import Sequence

from harmless_runtime.rows.conversations import continue_dialogue, is_dialogue
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import NO_ID, Fields, Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading, Shape

_SOURCE = "query"
# The tokens that tokenizers add at the end of a text, or to make it longer.
_END = re.compile(
    r"(\s*(<\|endoftext\|>|<\|im_end\|>|<\|eot_id\|>|<\|end_of_text\|>|<eos>|</s>|<pad>))+\s*$"
)
# A turn of ChatML (Qwen and others) or of Llama 3: its role and its text. The last one may be open.
_TURN = re.compile(
    r"(?:<\|im_start\|>(\w+)\n|<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n)"
    r"(.*?)(?:<\|im_end\|>|<\|eot_id\|>|$(?![\s\S]))",
    re.DOTALL,
)


class QueryParser:
    """Turns texts into pairs.

    A text is one of these, tried in this order: turns of ChatML or Llama 3; its prompt, which was
    sent beside it, and the response to that; or a dialogue with Human: and Assistant:.

    Args:
        reading: how rows are read, of which `system` and `line_bytes` count.
    """

    def __init__(self, reading: Reading) -> None:
        options = reading.system, reading.line_bytes
        self._turns = RowParser(KNOWN["messages"], *options)
        self._texts = RowParser(Shape("prompt", "prompt", output="response"), *options)
        self._dialogue = RowParser(Shape("dialogue", output="dialogue"), *options)

    def __call__(self, queries: Sequence[str], prompts: Sequence[str]) -> list[Pair | Reject]:
        """Return what is made of each text, in order.

        Args:
            queries: the texts.
            prompts: those that the texts begin with, or nothing.
        """
        given = [*prompts, *[""] * (len(queries) - len(prompts))]
        return [
            self._parse(number, query, prompt)
            for number, (query, prompt) in enumerate(zip(queries, given, strict=False))
        ]

    def _parse(self, number: int, query: str, prompt: str) -> Pair | Reject:
        turns = [
            {"role": role or other, "content": text} for role, other, text in _TURN.findall(query)
        ]
        if turns:
            return self._turns(Fields(_SOURCE, number, {"messages": turns}))
        text = _END.sub("", query)
        if prompt and query.startswith(prompt):
            response = text[len(prompt) :]
            pair = self._texts(Fields(_SOURCE, number, {"prompt": prompt, "response": response}))
            if isinstance(pair, Pair) and is_dialogue(prompt):
                return Pair(_SOURCE, number, NO_ID, *continue_dialogue(prompt, response))
            return pair
        if is_dialogue(text):
            return self._dialogue(Fields(_SOURCE, number, {"dialogue": text}))
        reason = (
            "it has neither turns of a chat template, nor its prompt, nor a dialogue with Human: "
            "and Assistant:"
        )
        return Reject(_SOURCE, number, reason, b"")
