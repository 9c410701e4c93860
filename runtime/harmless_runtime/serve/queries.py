"""Read the texts that trainers send: a dialogue, a prompt with its response, or a chat template."""

from collections.abc import Iterator, Sequence

from harmless_runtime.rows.conversations import Turn, continue_dialogue, is_dialogue
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import NO_ID, Fields, Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading, Shape
from harmless_runtime.rows.templates import marks_in, read_template, without_end

_SOURCE = "query"


class QueryParser:
    """Turns texts into pairs.

    A text is one of these, tried in this order: turns of a chat template; its prompt, which was
    sent beside it, and the response to that; or a dialogue with Human: and Assistant:. If a prompt
    in turns was sent that ends where the answer begins, all that comes after it is the answer.

    Args:
        reading: how rows are read, of which `system` and `line_bytes` count.
    """

    def __init__(self, reading: Reading) -> None:
        options = reading.system, reading.line_bytes
        self._turns = RowParser(KNOWN["messages"], *options)
        self._texts = RowParser(Shape("prompt", "prompt", output="response"), *options)
        self._dialogue = RowParser(Shape("dialogue", output="dialogue"), *options)

    def __call__(self, queries: Sequence[str], prompts: Sequence[str]) -> Iterator[Pair | Reject]:
        """Yield what is made of each text, in order.

        Args:
            queries: the texts.
            prompts: those that the texts begin with, or nothing.
        """
        given = [*prompts, *[""] * (len(queries) - len(prompts))]
        for number, (query, prompt) in enumerate(zip(queries, given, strict=False)):
            yield self._parse(number, query, prompt)

    def _parse(self, number: int, query: str, prompt: str) -> Pair | Reject:
        asked = read_template(prompt) if query.startswith(prompt) else None
        if asked and asked.begun is not None:
            answer = asked.continued(query[len(prompt) :])
            return self._conversation(number, asked.turns, answer)
        if whole := read_template(query):
            return self._conversation(number, whole.turns, whole.begun)
        mark = marks_in(query)
        if mark and not mark.endswith(":") and query.lstrip().startswith(mark):
            reason = "it has text outside of the turns of its chat template"
            return Reject(_SOURCE, number, reason, b"")
        text = without_end(query)
        if prompt and query.startswith(prompt):
            response = text[len(prompt) :]
            pair = self._texts(Fields(_SOURCE, number, {"prompt": prompt, "response": response}))
            if isinstance(pair, Pair) and is_dialogue(prompt):
                return Pair(_SOURCE, number, NO_ID, *continue_dialogue(prompt, response))
            return pair
        if is_dialogue(text):
            return self._dialogue(Fields(_SOURCE, number, {"dialogue": text}))
        reason = (
            "it has neither turns of a chat template, nor its prompt, and it is no dialogue that "
            r"begins with \n\nHuman: and has \n\nAssistant:"
        )
        return Reject(_SOURCE, number, reason, b"")

    def _conversation(
        self, number: int, turns: Sequence[Turn], answer: str | None
    ) -> Pair | Reject:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        return self._turns(Fields(_SOURCE, number, {"messages": messages}))
