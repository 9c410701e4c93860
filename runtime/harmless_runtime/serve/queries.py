"""Read the texts that trainers send: a prompt with its response, or a whole conversation."""

from collections.abc import Iterator, Sequence

from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import Fields, Pair, Reject
from harmless_runtime.rows.shapes import Reading, Shape

_SOURCE = "query"


class QueryParser:
    """Turns texts into pairs.

    A text that begins with its prompt, which was sent beside it, is a request and its answer, as
    they are in a row with two fields. Any other text has to be a whole conversation, whose last
    answer is scored.

    Args:
        reading: how rows are read.
    """

    def __init__(self, reading: Reading) -> None:
        self._answer = RowParser(Shape("prompt", "prompt", output="response"), reading)
        self._whole = RowParser(Shape("text", output="text"), reading)

    def __call__(self, queries: Sequence[str], prompts: Sequence[str]) -> Iterator[Pair | Reject]:
        """Yield what is made of each text, in order.

        Args:
            queries: the texts.
            prompts: those that the texts begin with, or nothing.
        """
        given = [*prompts, *[""] * (len(queries) - len(prompts))]
        for number, (query, prompt) in enumerate(zip(queries, given, strict=False)):
            if prompt and query.startswith(prompt):
                values = {"prompt": prompt, "response": query[len(prompt) :]}
                yield self._answer(Fields(_SOURCE, number, values))
            else:
                yield self._whole(Fields(_SOURCE, number, {"text": query}))
