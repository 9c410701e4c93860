"""Score how helpful responses are, with the sibling of the harmless model."""

from typing import ClassVar

from harmless_runtime.choices import ScorerName
from harmless_runtime.scorer import Gpt2HarmlessScorer


class Gpt2HelpfulScorer(Gpt2HarmlessScorer):
    """Scores pairs with the sibling of the harmless model, which was trained on helpful answers.

    Higher is more helpful. The architecture and the form of the texts are the same.
    """

    NAME: ClassVar[ScorerName] = "Gpt2HelpfulScorer"
