"""Everything that can go wrong, as one small tree: each message is one sentence for the user."""


class HarmlessError(Exception):
    """Base of every error this project raises on purpose; its text needs no traceback."""


class ConfigError(HarmlessError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another one."""


class CheckpointError(HarmlessError):
    """A checkpoint is missing, unreadable, unsafe, or cannot be represented exactly."""


class ArtifactError(HarmlessError):
    """An artifact folder is missing, incomplete, altered, or from another format version."""


class ParityError(HarmlessError):
    """An artifact's scores are further from PyTorch fp32 than the limit allows."""


class SessionError(HarmlessError):
    """ONNX Runtime cannot give the execution provider asked for, or failed to run."""


class OutOfMemoryError(SessionError):
    """A batch does not fit into the device's memory; in parts it may."""


class InputError(HarmlessError):
    """An input cannot be read, or a row cannot be scored where every row has to be."""


class OutputError(HarmlessError):
    """The output cannot be written, or would replace something."""


def one_line(error: object) -> str:
    """What a library says went wrong, on one line and not too long."""
    return " ".join(str(error).split())[:500]
