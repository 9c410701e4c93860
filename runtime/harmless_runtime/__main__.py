"""Run the command `harmless` as `python -m harmless_runtime`, if its script is not installed."""

from harmless_runtime.cli.app import main

main()
