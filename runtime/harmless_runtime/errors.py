"""Define the errors that this project raises on purpose.

A message states a fact, with the values, in one sentence. A hint says what to do. The hint is kept
apart from the message: Python shows it as a note, and the command shows it on its own line.
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


class ShapeError(ConfigError):
    """The rows have no shape that is known, so that none of the first ones can be scored."""


class CheckpointError(HarmlessError):
    """A checkpoint is missing, unreadable, unsafe, or cannot be represented exactly."""


class ArtifactError(HarmlessError):
    """An artifact folder is missing, incomplete, altered, or from another format version."""


class ParityError(HarmlessError):
    """An artifact's scores are further from PyTorch fp32 than the limit allows."""


class SessionError(HarmlessError):
    """The model cannot run with the requested provider and precision, or a run of it failed."""


class OutOfMemoryError(SessionError):
    """The device's memory has no room for the weights, the buffers or a batch."""


class InputError(HarmlessError):
    """An input cannot be read, or a row cannot be scored in a run that allows no rejects."""


class ChangedError(InputError):
    """An input is not any more what it was when the run began."""


class StrictError(InputError):
    """A row cannot be scored in a strict run, which can only go on without being strict."""


class OutputError(HarmlessError):
    """The output cannot be written, or would replace something."""


def one_line(error: object) -> str:
    """Return a library's error message on one line, cut to 500 characters."""
    return " ".join(str(error).split())[:500]
