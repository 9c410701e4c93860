"""Errors: a fact, and a hint that Python shows as a note and the command on a line of its own."""

import pickle
import traceback

from harmless_runtime.cli.failures import settings_as_flags
from harmless_runtime.errors import HarmlessError, OutOfMemoryError, one_line

ERROR = OutOfMemoryError("there is no memory", "lower `batch_size`, or choose another `device`")


def test_python_shows_the_hint_below_the_message() -> None:
    shown = traceback.format_exception_only(ERROR)
    assert shown == [
        "harmless_runtime.errors.OutOfMemoryError: there is no memory\n",
        "hint: lower `batch_size`, or choose another `device`\n",
    ]
    assert str(ERROR) == "there is no memory"


def test_a_log_line_has_the_hint_in_brackets() -> None:
    assert ERROR.with_hint == ("there is no memory (lower batch_size, or choose another device)")
    assert HarmlessError("a fact").with_hint == "a fact"


def test_an_error_survives_the_way_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(ERROR))
    assert (type(again), str(again), again.hint) == (type(ERROR), str(ERROR), ERROR.hint)


def test_settings_in_a_hint_are_shown_as_flags() -> None:
    assert ERROR.hint is not None
    shown = settings_as_flags(ERROR.hint)
    assert shown == "lower --batch-size, or choose another --device"
    assert settings_as_flags("pip install '.[gpu]'") == "pip install '.[gpu]'"


def test_a_library_error_is_put_on_one_short_line() -> None:
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert len(one_line("x" * 1000)) == 500
