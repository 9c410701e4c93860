"""Write the page about all commands from what `harmless --help` knows.

python docs/write_commands.py [FILE]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HEAD = """# Commands

What `harmless COMMAND --help` says. A flag wins over the key of the same name in `--config`.
[All keys](configuration.md), [all exit codes](configuration.md#exit-codes).

"""


def main() -> None:
    """Write the page."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("commands.md")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.md")
        subprocess.run(
            [sys.executable, "-m", "typer", "harmless_runtime.cli.commands", "utils", "docs",
             "--name", "harmless", "--output", str(made)],
            check=True, capture_output=True,
        )  # fmt: skip
        _, _, rest = made.read_text().partition("\n")
    out.write_text(HEAD + rest.lstrip())


if __name__ == "__main__":
    main()
