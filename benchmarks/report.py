"""Write the results of the benchmarks into the README's tables, and draw plots of them.

python benchmarks/report.py            # writes the tables into README.md and docs/reliability.md
python benchmarks/report.py --plots    # draws the plots as well (needs the benchmark extra)
"""

from pathlib import Path

from suite.options import plain_parser
from suite.plots import plot_latency, plot_throughput
from suite.render import render_all
from suite.results import ROOT, load
from suite.sentences import reliability
from suite.tables import export_table

README = ROOT / "README.md"
RELIABILITY = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"
EXPORT_BEGIN, EXPORT_END = "<!-- export: begin -->\n", "<!-- export: end -->\n"
RESULTS_BEGIN, RESULTS_END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def fill(path: Path, begin: str, text: str, end: str) -> None:
    """Replace the text between two marks of a file."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    """Write the README's tables, and the plots if asked for."""
    parser = plain_parser(__doc__)
    parser.add_argument("--plots", action="store_true")
    args = parser.parse_args()
    fill(README, BEGIN, render_all(), END)
    fill(README, EXPORT_BEGIN, export_table(), EXPORT_END)
    fill(RELIABILITY, RESULTS_BEGIN, reliability(), RESULTS_END)
    if args.plots:
        for path, result in load("throughput"):
            plot_throughput(path, result)
        for path, result in load("latency"):
            plot_latency(path, result)


if __name__ == "__main__":
    main()
