"""Begin the command `harmless`.

It imports next to nothing before signals are handled, so that one in the first moments ends the
command with a word, and not with a traceback.
"""

import os
import signal


def main() -> None:
    """Run the command line."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end_at_once)
    from harmless_runtime.cli.commands import app
    from harmless_runtime.cli.failures import run_command

    run_command(app)


def _end_at_once(number: int, _frame: object) -> None:
    """End the process: nothing is open yet.

    An exception could come out of an import as another one, or get lost in it.
    """
    word = b"interrupted\n" if number == signal.SIGINT else b"terminated\n"
    try:
        os.write(2, word)
    finally:
        os._exit(128 + number)
