"""Define the subcommands that read rows. `app` gives them their names."""

from harmless_runtime.cli import export_options, options, result_options
from harmless_runtime.cli.failures import terminal
from harmless_runtime.cli.settings import settings_in


def score(
    inputs: options.Inputs = None,
    out: options.Out = None,
    config: options.Config = None,
    model: options.Model = None,
    max_length: options.MaxLength = None,
    batch_size: options.BatchSize = None,
    provider: options.Provider = None,
    precision: options.Precision = None,
    device: options.Devices = None,
    gpu_memory: options.GpuMemory = None,
    compute: options.Compute = None,
    streams: options.Streams = None,
    columns: options.Columns = None,
    roles: options.Roles = None,
    format: options.Format = None,  # noqa: A002 - the option has this name
    system: options.System = None,
    as_is: options.AsIs = None,
    resume: options.Resume = False,
    max_line_bytes: options.MaxLineBytes = None,
    check_files: options.CheckFiles = None,
    allow_pickle: options.AllowPickle = None,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    details: options.Details = False,
    join: options.Join = False,
    score_column: options.ScoreColumn = None,
    engine: options.Engine = None,
    workers: options.Workers = None,
    address: options.Address = None,
    dry_run: options.DryRun = False,
    _quiet: options.Quiet = False,
    _verbose: options.Verbose = False,
) -> None:
    """Score instruction/response pairs.

    The output has a line for each row, with its id and its score. With --join it has the rows
    themselves, with their scores.

    The shape of the rows is recognised (alpaca, prompt/response, messages and others), unless
    --columns or --format says what it is.

    A job of OpenDataArena's data scorers, which --config takes as well, names the input and the
    output itself.

    Exit codes: 0 all rows were scored, 1 failed, 2 wrong usage, 3 finished with some rows rejected,
    130 interrupted, 143 terminated. An interrupted, terminated or failed run can be continued with
    --resume.
    """
    with terminal() as console:
        from harmless_runtime.cli.score import Arguments, run

        flags = settings_in(locals())
        run(
            console,
            Arguments(
                inputs or [],
                out,
                config,
                flags,
                overwrite=overwrite,
                resume=resume,
                strict=strict,
                details=details,
                join=join,
                score_column=score_column,
                dry_run=dry_run,
                engine=engine,
                workers=workers,
                address=address,
                all_devices=device == "all",
            ),
        )


def select(
    rows: result_options.ScoredRows,
    out: result_options.SelectOut,
    scores: result_options.Scores = None,
    score_column: result_options.SelectColumn = None,
    above: result_options.Above = None,
    below: result_options.Below = None,
    top: result_options.Top = None,
    bottom: result_options.Bottom = None,
    overwrite: options.Overwrite = False,
    _quiet: options.Quiet = False,
    _verbose: options.Verbose = False,
) -> None:
    """Keep the rows whose scores are above or below a cut, as they are and in their order.

    The rows hold their scores, as `harmless score --join` writes them, or --scores names the output
    of the run that scored them. Rows without a score are never kept.
    """
    with terminal() as console:
        from harmless_runtime.cli.select import Arguments, run

        run(
            console,
            Arguments(rows, out, scores, score_column, above, below, top, bottom, overwrite),
        )


def report(
    scores: result_options.ReportScores,
    out: result_options.ReportOut,
    rows: result_options.ReportRows = None,
    by: result_options.By = None,
    overwrite: options.Overwrite = False,
    _quiet: options.Quiet = False,
    _verbose: options.Verbose = False,
) -> None:
    """Make a page of scores: how they are spread, where to cut, and what the rows look like.

    The page is one file, and loads nothing. Of two outputs it shows how far their scores agree, and
    which rows moved most.
    """
    with terminal() as console:
        from harmless_runtime.cli.report import run

        run(console, scores, out, rows=rows or [], by=by, overwrite=overwrite)


def evaluate(
    inputs: result_options.PairInputs,
    out: result_options.PairsOut = None,
    as_json: result_options.Json = False,
    against: result_options.Against = None,
    checkpoint: export_options.CheckpointOfArtifact = None,
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
    columns: result_options.PairColumns = None,
    roles: options.Roles = None,
    system: options.System = None,
    as_is: options.AsIs = None,
    resume: options.Resume = False,
    max_line_bytes: options.MaxLineBytes = None,
    check_files: options.CheckFiles = None,
    allow_pickle: options.AllowPickle = None,
    overwrite: options.Overwrite = False,
    _quiet: options.Quiet = False,
    _verbose: options.Verbose = False,
) -> None:
    """Count how often the chosen text of a preference pair scores higher than the rejected one.

    The pairs are those of hh-rlhf as they are (chosen and rejected dialogues), of RewardBench
    (prompt, chosen and rejected texts), or of TRL (lists of messages).

    Exit codes: 0 all pairs were scored, 1 failed, 2 wrong usage, 3 some pairs were not scored,
    130 interrupted, 143 terminated.
    """
    with terminal() as console:
        from harmless_runtime.cli.evaluate import Arguments, run

        flags = settings_in(locals())
        run(
            console,
            Arguments(
                inputs,
                out,
                config,
                flags,
                overwrite=overwrite,
                resume=resume,
                as_json=as_json,
                against=against,
                checkpoint=checkpoint,
            ),
        )
