"""Write the results of the benchmarks into the tables of the documents, and draw plots of them.

python benchmarks/report.py            # writes the tables into README.md and docs
python benchmarks/report.py --plots    # draws the plots as well (needs the benchmark extra)
"""

from collections.abc import Callable
from pathlib import Path

from suite.cluster_tables import costs_text, scaling_table
from suite.form_tables import inputs_table, outputs_table
from suite.options import plain_parser
from suite.plots import plot_latency, plot_load, plot_throughput
from suite.readme_tables import comparison_table, sides_table
from suite.results import ROOT, Result, load
from suite.sentences import end_to_end_line, footprint_line, reliability
from suite.serve_tables import serve_table
from suite.tables import (
    ablations_table,
    export_table,
    host_table,
    latency_table,
    parity_table,
    throughput_table,
)

README = ROOT / "README.md"
BENCHMARKS = ROOT / "docs/benchmarks.md"
PRECISION = ROOT / "docs/precision.md"
RELIABILITY = ROOT / "docs/reliability.md"
INPUTS = ROOT / "docs/inputs.md"
OUTPUTS = ROOT / "docs/outputs.md"
CLUSTER = ROOT / "docs/cluster.md"
SERVE = ROOT / "docs/serve.md"
IMAGES = ROOT / "docs/images"
BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"
EXPORT_BEGIN, EXPORT_END = "<!-- export: begin -->\n", "<!-- export: end -->\n"
WHY_BEGIN, WHY_END = "<!-- why: begin -->\n", "<!-- why: end -->\n"
SIDES_BEGIN, SIDES_END = "<!-- sides: begin -->\n", "<!-- sides: end -->\n"
RESULTS_BEGIN, RESULTS_END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
COSTS_BEGIN, COSTS_END = "<!-- costs: begin -->\n", "<!-- costs: end -->\n"


# What renders the results of each kind, in the order of the page.
RENDERERS: dict[str, Callable[[Path, Result], str]] = {
    "throughput": throughput_table,
    "latency": latency_table,
    "parity": parity_table,
    "ablations": ablations_table,
    "end-to-end": end_to_end_line,
    "host": host_table,
    "footprint": footprint_line,
}


def render_all() -> str:
    """Return the results of all kinds in Markdown."""
    return "\n".join(
        render(path, result) for kind, render in RENDERERS.items() for path, result in load(kind)
    )


def sides() -> str:
    """Return how many texts change side at a cut, in Markdown."""
    told = [result for _, result in load("parity") if "changed_side" in result["results"][0]]
    return "\n".join(map(sides_table, told))


def comparison() -> str:
    """Return the README's table of speeds, in Markdown."""
    results = {path.stem.rsplit("-", 3)[0]: result for path, result in load("throughput")}
    names = ("throughput-gpt2-large-avx512", "throughput-gpt2-avx512")
    return comparison_table(*(results[name] for name in names))


def serve() -> str:
    """Return what a server does under load, in Markdown."""
    return "\n".join(serve_table(path, result) for path, result in load("serve"))


def cluster(render: Callable[[Path, Result], str]) -> str:
    """Return what scoring on Ray costs, in Markdown."""
    return "\n".join(render(path, result) for path, result in load("cluster"))


def contents() -> list[tuple[Path, str, str, str]]:
    """Return what stands in which file between which two marks."""
    return [
        (README, WHY_BEGIN, comparison(), WHY_END),
        (README, SIDES_BEGIN, sides(), SIDES_END),
        (PRECISION, SIDES_BEGIN, sides(), SIDES_END),
        (PRECISION, EXPORT_BEGIN, export_table(), EXPORT_END),
        (BENCHMARKS, BEGIN, render_all(), END),
        (RELIABILITY, RESULTS_BEGIN, reliability(), RESULTS_END),
        (INPUTS, RESULTS_BEGIN, inputs_table(), RESULTS_END),
        (OUTPUTS, RESULTS_BEGIN, outputs_table(), RESULTS_END),
        (CLUSTER, RESULTS_BEGIN, cluster(scaling_table), RESULTS_END),
        (SERVE, RESULTS_BEGIN, serve(), RESULTS_END),
        (CLUSTER, COSTS_BEGIN, cluster(costs_text), COSTS_END),
    ]


def fill(path: Path, begin: str, text: str, end: str) -> None:
    """Replace the text between two marks of a file."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    """Write the tables, and the plots if asked for."""
    parser = plain_parser(__doc__)
    parser.add_argument("--plots", action="store_true")
    args = parser.parse_args()
    for path, begin, text, end in contents():
        fill(path, begin, text, end)
    if args.plots:
        for path, result in load("throughput"):
            plot_throughput(path, result)
        for path, result in load("latency"):
            plot_latency(path, result)
        for path, result in load("serve"):
            plot_load(IMAGES / path.name, result)


if __name__ == "__main__":
    main()
