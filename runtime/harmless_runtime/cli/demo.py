"""Run `harmless demo`."""

from rich.console import Console

from harmless_runtime.choices import DEFAULT_MODEL
from harmless_runtime.cli.display import show_demo, show_summary
from harmless_runtime.demo import run_demo


def run() -> None:
    """Score the bundled rows, and print the highest and the lowest."""
    rows, summary = run_demo()
    out = Console()
    show_demo(out, rows)
    show_summary(out, summary)
    out.print(
        "\nThe bundled model only shows the mechanics: it is far too small to judge safety.\n"
        "For the real one (3.1 GB to download, with the export extra installed):\n\n"
        f"  harmless export {DEFAULT_MODEL} -o artifact\n"
        "  harmless score rows.jsonl -o scores.jsonl --model artifact",
        highlight=False,
        soft_wrap=True,
    )
