"""Turn a record's fields into the two texts that the model was trained on."""


def question_and_answer(instruction: str, context: str, output: str) -> tuple[str, str]:
    """Return (Q, A) in the dialogue format of Anthropic's hh-rlhf dataset.

    `context` is the record's `input`. An empty one leaves no trace. No text is changed. Nothing
    stands between Q and A, because they are tokenised separately.

    >>> question_and_answer("Add.", "1 2", "3")
    ('\\n\\nHuman: Add.\\n1 2\\n\\nAssistant:', '3')
    """
    request = f"{instruction}\n{context}" if context else instruction
    return f"\n\nHuman: {request}\n\nAssistant:", output
