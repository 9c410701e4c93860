"""The arguments and options of `select`, `report` and `eval`, each with its help text."""

from pathlib import Path
from typing import Annotated

import typer

from harmless_runtime import choices

PairInputs = Annotated[
    list[str],
    typer.Argument(
        metavar="PAIRS...", help="Preference pairs, in any form of file that score reads."
    ),
]
PairsOut = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        help="File of JSON lines that keeps the scores, so that an interrupted run can be resumed.",
        show_default="nothing is kept",
    ),
]
PairColumns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=FIELD,...",
        help="Where the texts are: output for the chosen response, rejected, instruction, input "
        "and id.",
        show_default="recognised",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print an object of JSON instead of tables.")]
Against = Annotated[
    choices.Program | None,
    typer.Option(
        help="Score the same pairs with the checkpoint in PyTorch fp32, too.", show_default=False
    ),
]

ScoredRows = Annotated[
    list[str], typer.Argument(metavar="ROWS...", help="The rows, in any form that score reads.")
]
SelectOut = Annotated[
    str, typer.Option("--out", "-o", help="File to write, in the form that its name says.")
]
Scores = Annotated[
    str | None, typer.Option(help="What `harmless score ROWS... -o SCORES` has written.")
]
SelectColumn = Annotated[
    str | None,
    typer.Option(
        help="Field or column of the scores in the rows.",
        show_default=f"{choices.SCORE_COLUMN} or score",
    ),
]
Above = Annotated[float | None, typer.Option(help="Keep scores of at least this.")]
Below = Annotated[float | None, typer.Option(help="Keep scores that are less than this.")]
Top = Annotated[
    str | None, typer.Option(metavar="N|P%", help="Keep the highest scores: a number, or a share.")
]
Bottom = Annotated[
    str | None, typer.Option(metavar="N|P%", help="Keep the lowest scores: a number, or a share.")
]

ReportScores = Annotated[
    list[str],
    typer.Argument(
        metavar="SCORES [SCORES]",
        help="What `harmless score` has written. Two of them, over the same rows, are compared.",
    ),
]
ReportOut = Annotated[Path, typer.Option("--out", "-o", help="The page to write, such as r.html.")]
ReportRows = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROWS",
        help="The rows that were scored; may be given several times.",
        show_default="where the run's record says",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD", help="Field of the rows to group them by.", show_default="their inputs"
    ),
]
