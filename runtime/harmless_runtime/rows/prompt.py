"""A record's fields to the two texts that the model was trained on."""


def question_and_answer(instruction: str, context: str, output: str) -> tuple[str, str]:
    """Return (Q, A) in the dialogue format of Anthropic's hh-rlhf.

    `context` is the record's `input`; empty, it leaves no trace. No text is altered, and nothing
    stands between Q and A, which are tokenised separately.
    """
    request = f"{instruction}\n{context}" if context else instruction
    return f"\n\nHuman: {request}\n\nAssistant:", output
