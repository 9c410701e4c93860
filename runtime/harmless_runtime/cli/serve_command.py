"""Define `harmless serve`, and what `--help` says about it."""

from pathlib import Path
from typing import Annotated

import typer

from harmless_runtime.cli import options
from harmless_runtime.cli.failures import terminal
from harmless_runtime.cli.settings import settings_in

Host = Annotated[
    str, typer.Option(help="Address to listen at. Only this machine reaches the default.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")]
WaitMs = Annotated[
    float,
    typer.Option(
        min=0,
        max=10_000,
        callback=options.finite,
        help="Milliseconds that a request waits for others.",
    ),
]
MaxWaiting = Annotated[
    int,
    typer.Option(
        min=1, help="Most rows that wait; further requests are held, or answered with 429."
    ),
]
MaxRows = Annotated[int, typer.Option(min=1, help="Most rows of a request.")]
MaxBody = Annotated[int, typer.Option(min=1, help="Most bytes of a request's body.")]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=86_400,
        callback=options.finite,
        help="Most seconds that a body takes to arrive, and then its rows to be scored.",
    ),
]
MaxHold = Annotated[
    float,
    typer.Option(
        min=0,
        max=86_400,
        callback=options.finite,
        help="Most seconds that a request to /get_reward or /classify is held before it is "
        "answered with 429.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="A file with a token that clients have to send: Authorization: Bearer TOKEN."
    ),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    wait_ms: WaitMs = 5,
    max_waiting: MaxWaiting = 16_384,
    max_rows: MaxRows = 1024,
    max_body: MaxBody = 8 * 2**20,
    timeout: Timeout = 60,
    max_hold: MaxHold = 110,
    token_file: TokenFile = None,
    config: options.Config = None,
    model: options.Model = None,
    max_length: options.MaxLength = None,
    batch_size: options.BatchSize = None,
    provider: options.Provider = None,
    precision: options.Precision = None,
    device: options.Device = None,
    gpu_memory: options.GpuMemory = None,
    compute: options.Compute = None,
    streams: options.Streams = None,
    columns: options.Columns = None,
    roles: options.Roles = None,
    system: options.System = None,
    as_is: options.AsIs = None,
    max_line_bytes: options.MaxLineBytes = None,
    check_files: options.CheckFiles = None,
    allow_pickle: options.AllowPickle = None,
    _quiet: options.Quiet = False,
    _verbose: options.Verbose = False,
) -> None:
    """Score rows that other programs send over HTTP.

    POST /score takes rows in any shape that `harmless score` knows, POST /get_reward is OpenRLHF's
    remote reward model, and POST /classify is vLLM's. GET /health, /ready and /metrics tell how the
    server is. It listens once the model is loaded. Ctrl-C or SIGTERM finishes what was accepted.
    """
    with terminal() as console:
        from harmless_runtime.cli.serve import Arguments, run

        flags = settings_in(locals())
        run(
            console,
            Arguments(
                host,
                port,
                wait_ms,
                max_waiting,
                max_rows,
                max_body,
                timeout,
                max_hold,
                token_file,
                config,
                flags,
            ),
        )
