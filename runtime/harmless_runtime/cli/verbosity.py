"""Remember how much a person wants to read. The options `--quiet` and `--verbose` set it."""

quiet = False
verbose = False


def set_quiet(wanted: bool) -> None:
    """Print nothing but warnings, errors and results from now on."""
    global quiet
    quiet = quiet or wanted


def set_verbose(wanted: bool) -> None:
    """Print more from now on: what is decided, how long steps take, tracebacks."""
    global verbose
    verbose = verbose or wanted
