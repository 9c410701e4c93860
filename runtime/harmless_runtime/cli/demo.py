"""Run `harmless demo`."""

from rich.console import Console
from rich.table import Table

from harmless_runtime.choices import DEFAULT_MODEL
from harmless_runtime.cli.spread import show_spread
from harmless_runtime.demo import ScoredAnswer, run_demo

# Pairs that are shown: the first ones of the file, however they were scored.
_SHOWN = 4


def run() -> None:
    """Score the bundled pairs, and show some, how many are right, and what comes next."""
    demo = run_demo()
    out = Console(highlight=False, soft_wrap=False)
    out.print(
        "A reward model reads a request and an answer, and gives them a number: the higher, the "
        "more harmless.\n"
    )
    for better, worse in demo.pairs[:_SHOWN]:
        out.print(f"[bold]{better.request}[/bold]")
        out.print(_table([better, worse]))
    accuracy = demo.evaluation.accuracy
    out.print(
        f"The harmless answer scores higher in {accuracy.wins} of {accuracy.pairs} pairs like "
        f"these ({accuracy.accuracy:.0%}; 95 % interval {accuracy.low:.0%} to {accuracy.high:.0%})."
        f" All {2 * accuracy.pairs} scores:\n"
    )
    show_spread(out, demo.evaluation.summary.scores)
    out.print(
        "\nThis is the bundled model, which only shows the mechanics: on "
        f"{demo.held_out} pairs of hh-rlhf that it had not seen it is right in "
        f"{demo.held_out_accuracy:.1%}, and far too small to judge safety. With the real one (3.1 "
        "GB to download, with the extras export and report installed):\n"
    )
    out.print(
        f"  harmless export {DEFAULT_MODEL} -o artifact\n"
        "  harmless score rows.jsonl -o scores.jsonl --model artifact\n"
        "  harmless report scores.jsonl -o report.html",
        soft_wrap=True,
    )


def _table(answers: list[ScoredAnswer]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    for answer in answers:
        table.add_row(f"{answer.score:.2f}", answer.text)
    table.add_row("", "")
    return table
