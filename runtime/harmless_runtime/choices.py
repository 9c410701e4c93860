"""List what a person may choose: execution providers, precisions, shapes of rows, models.

This is apart from `config.py`, because `harmless --help` should not wait for pydantic.
"""

from typing import Literal

# The field or column that joined rows get.
SCORE_COLUMN = "harmless_score"
DEFAULT_MODEL = "Ray2333/gpt2-large-harmless-reward_model"
# The names of scorers, and the models that they have by default.
ScorerName = Literal["Gpt2HarmlessScorer", "Gpt2HelpfulScorer"]
DEFAULT_MODELS: dict[ScorerName, str] = {
    "Gpt2HarmlessScorer": DEFAULT_MODEL,
    "Gpt2HelpfulScorer": "Ray2333/gpt2-large-helpful-reward_model",
}

Provider = Literal["cuda", "cpu", "openvino"]
# What OpenVINO computes an fp32 artifact in.
Compute = Literal["fp32", "bf16"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
TruncationSide = Literal["right", "left"]
# `auto` leaves the choice to this package.
ProviderChoice = Literal["auto", Provider]
PrecisionChoice = Literal["auto", Precision]
ComputeChoice = Literal["auto", Compute]

# What runs `harmless score`.
EngineName = Literal["local", "ray"]
# What `harmless eval` can compare with.
Program = Literal["pytorch"]

# Shapes of rows that `rows.shapes` knows, and what becomes of system texts.
FormatName = Literal[
    "alpaca", "prompt-response", "prompt-completion", "question-answer", "messages", "sharegpt"
]
SystemChoice = Literal["drop", "prepend"]
# Whose words a turn of a conversation has.
SpeakerRole = Literal["user", "assistant", "system"]
# The texts of a preference pair.
Side = Literal["chosen", "rejected"]
