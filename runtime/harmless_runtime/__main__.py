"""`python -m harmless_runtime`: the command `harmless`, where only the packages are at hand."""

from harmless_runtime.cli.app import main

main()
