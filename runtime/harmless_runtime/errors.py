"""The errors that this project raises on purpose, as one small tree.

A message states a fact, with the values, in one sentence. A hint says what to do about it. It is
kept apart, so that Python can show it as a note below the message, and the command on its own line.
"""


class HarmlessError(Exception):
    """The base of all errors here. None of them needs a traceback to be understood.

    Args:
        message: what is wrong.
        hint: what to do about it. Names of settings stand in backticks, such as `max_length`: the
            command replaces them by its flags.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None:
            self.add_note(f"hint: {hint}")

    @property
    def with_hint(self) -> str:
        """The message, and the hint in brackets without its backticks: for a log line."""
        return f"{self} ({self.hint.replace('`', '')})" if self.hint else str(self)


class ConfigError(HarmlessError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another one."""


class CheckpointError(HarmlessError):
    """A checkpoint is missing, unreadable, unsafe, or cannot be represented exactly."""


class ArtifactError(HarmlessError):
    """An artifact folder is missing, incomplete, altered, or from another format version."""


class ParityError(HarmlessError):
    """An artifact's scores are further from PyTorch fp32 than the limit allows."""


class SessionError(HarmlessError):
    """ONNX Runtime does not have the execution provider that was asked for, or failed to run."""


class OutOfMemoryError(SessionError):
    """The device's memory has no room for a batch. Smaller batches may fit."""


class InputError(HarmlessError):
    """An input cannot be read, or a row cannot be scored although every row has to be."""


class OutputError(HarmlessError):
    """The output cannot be written, or would replace something."""


def one_line(error: object) -> str:
    """Return a library's error message on one line, cut to 500 characters."""
    return " ".join(str(error).split())[:500]
