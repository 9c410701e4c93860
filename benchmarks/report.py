"""The results of the benchmarks to the README's tables, and to plots beside the results.

python benchmarks/report.py            # writes the tables into README.md
python benchmarks/report.py --plots    # the plots as well (needs the benchmark extra)
"""

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"
ORIGINAL = "pytorch-bf16-original"


def load(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    """Read the results of a kind, the latest of each model, provider and machine."""
    latest: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json"), key=lambda p: p.stem.rsplit("-", 3)[1:]):
        result = json.loads(path.read_text())
        latest[path.stem.rsplit("-", 3)[0], result["provider"]] = (path, result)
    return list(latest.values())


def tables() -> str:
    """Render every result as Markdown."""
    parts = [throughput_table(path, result) for path, result in load("throughput")]
    parts += [end_to_end_line(path, result) for path, result in load("end-to-end")]
    return "\n".join(parts)


def throughput_table(path: Path, result: dict[str, Any]) -> str:
    """One row a competitor, the fastest first."""
    machine, peaks = result["machine"], result["matrix_products"]
    measured = [r for r in result["results"] if r.get("right")]
    original = next((r for r in measured if r["name"] == ORIGINAL), None)
    lines = [
        f"{model_name(result)}, {result['rows']} rows of {result['source']} "
        f"({result['tokens']:,} tokens), {machine['cpus']} cores of {machine['cpu']}, medians of "
        f"{result['rounds']} rounds ([all figures]({path.relative_to(README.parent)})). "
        "Plain matrix products reach "
        + ", ".join(
            f"{peaks[f'{p}_flops'] / 1e9:,.0f} GFLOP/s in {p}"
            for p in ("fp32", "bf16", "int8")
            if f"{p}_flops" in peaks
        )
        + " there.",
        "",
        "| | tokens/s (range) | against the original | share of the matrix-product peak | "
        "padding | peak memory | largest difference from PyTorch fp32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in sorted(measured, key=lambda r: -r["tokens_per_second"]):
        times = r["tokens_per_second"] / original["tokens_per_second"] if original else 0
        lines.append(
            f"| {r['name']} | {r['tokens_per_second']:,.0f} ({r['slowest']:,.0f} to "
            f"{r['fastest']:,.0f}) | {f'{times:.2f} ×' if original else '–'} | "
            f"{r['share_of_peak']:.0%} | {r['padding_share']:.1%} | {r['peak_gb']:.1f} GB | "
            f"{r['parity']['relative']:.1g} σ |"
        )
    for r in result["results"]:
        if not r.get("right"):
            why = r.get("missing") or r.get("failed") or "scores too far from PyTorch's in fp32"
            lines.append(
                f"| {r['name']} | {why.removeprefix('SessionError: ').split(',')[0]} | | | | | |"
            )
    return "\n".join([*lines, ""])


def end_to_end_line(path: Path, result: dict[str, Any]) -> str:
    """One sentence: what share of the engine's speed the command has."""
    command = min(result["command_seconds"])
    return (
        f"{model_name(result)}, {result['rows']} rows: `harmless score` takes {command:,.1f} s, "
        f"start-up of {result['start_up_seconds']:.1f} s included, {result['engine_share']:.0%} of "
        f"the engine's own speed ([all figures]({path.relative_to(README.parent)})).\n"
    )


def model_name(result: dict[str, Any]) -> str:
    """How a result's model is called."""
    size = result["model"].removeprefix("random:")
    drawn = f"Random weights of {size} size" if size != result["model"] else result["model"]
    return f"{drawn}, {result['provider']}"


def plot_throughput(path: Path, result: dict[str, Any]) -> None:
    """Draw tokens a second as bars, with the range of the rounds, into an SVG beside the result."""
    import matplotlib.pyplot as plt

    measured = sorted(
        (r for r in result["results"] if r.get("right")), key=lambda r: r["tokens_per_second"]
    )
    names = [r["name"] for r in measured]
    rates = [r["tokens_per_second"] for r in measured]
    below = [r["tokens_per_second"] - r["slowest"] for r in measured]
    above = [r["fastest"] - r["tokens_per_second"] for r in measured]
    colours = ["#1a7f5a" if name.startswith("harmless") else "#9aa5b1" for name in names]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")
    axes.barh(names, rates, xerr=[below, above], color=colours, capsize=2)
    axes.set_xlabel("real tokens a second")
    axes.set_title(f"{model_name(result)}, {result['rows']} rows")
    axes.spines[["top", "right"]].set_visible(False)
    # Neither a date nor random ids: the same result gives the same file.
    plt.rcParams["svg.hashsalt"] = "harmless-scorer"
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Write the README's tables, and the plots if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plots", action="store_true")
    args = parser.parse_args()
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}")
    if args.plots:
        for path, result in load("throughput"):
            plot_throughput(path, result)


if __name__ == "__main__":
    main()
