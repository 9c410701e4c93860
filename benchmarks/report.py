"""The results of the benchmarks to the README's tables, and to plots beside the results.

python benchmarks/report.py            # writes the tables into README.md
python benchmarks/report.py --plots    # the plots as well (needs the benchmark extra)
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RELIABILITY = HERE.parent / "docs/reliability.md"
RELIABILITY_RESULTS = HERE.parent / "docs/results"
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"
RESULTS_BEGIN, RESULTS_END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
ORIGINALS = ("pytorch-bf16-original", "pytorch-fp32-original")


def load(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    """Read the results of a kind, the latest of each model, provider and machine."""
    latest: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json"), key=lambda p: p.stem.rsplit("-", 3)[1:]):
        result = json.loads(path.read_text())
        latest[path.stem.rsplit("-", 3)[0], result["provider"]] = (path, result)
    return list(latest.values())


def tables() -> str:
    """Render every result as Markdown."""
    render = {
        "throughput": throughput_table,
        "latency": latency_table,
        "end-to-end": end_to_end_line,
        "footprint": footprint_line,
    }
    return "\n".join(
        function(path, result) for kind, function in render.items() for path, result in load(kind)
    )


def reliability() -> str:
    """What the long runs of kills, fuzzing and soaking gave."""
    kill, fuzz, soak = (
        json.loads((RELIABILITY_RESULTS / f"{name}.json").read_text())
        for name in ("kill", "fuzz", "soak")
    )
    outcomes = ", ".join(f"{count:,} {what}" for what, count in fuzz["outcomes"].items())
    return (
        f"- `python tests/kill.py` ({kill['date']}): {kill['kills']:,} kills, "
        f"{kill['kills_between_commits']:,} of them of a run that had committed something, in "
        f"{kill['runs']:,} runs of {kill['rows']:,} rows that came to their end; "
        f"{kill['differences']:,} bytes differed.\n"
        f"- `python tests/fuzz.py` ({fuzz['date']}): {fuzz['examples_of_each_kind']:,} examples of "
        f"each kind, {outcomes}; {fuzz['failures']:,} failures.\n"
        f"- `python tests/soak.py` ({soak['date']}): {soak['rows']:,} rows in {soak['seconds']:,} "
        f"s; {soak['early_mb']:.0f} MB in the second tenth of the run and {soak['late_mb']:.0f} MB "
        f"in the last, {soak['early_descriptors']} and {soak['late_descriptors']} descriptors.\n"
    )


def throughput_table(path: Path, result: dict[str, Any]) -> str:
    """One row a competitor, the fastest first."""
    peaks = result["matrix_products"]
    measured = [r for r in result["results"] if r.get("right")]
    rates = {r["name"]: r["tokens_per_second"] for r in measured}
    # Where the original's own bf16 is too slow to measure, its fp32 has to do.
    original = next(name for name in ORIGINALS if name in rates)
    lines = [
        f"{model_name(result)}, {result['rows']} rows of {result['source']} "
        f"({result['tokens']:,} tokens), {machine_name(result)}, medians of "
        f"{result['rounds']} rounds ([all figures]({path.relative_to(README.parent)})). "
        "Plain matrix products reach "
        + ", ".join(
            f"{peaks[f'{p}_flops'] / 1e9:,.0f} GFLOP/s in {p}"
            for p in ("fp32", "bf16", "int8")
            if f"{p}_flops" in peaks
        )
        + " there.",
        "",
        f"| | tokens/s (range) | against {original} | share of the matrix-product peak | "
        "padding | peak memory | largest difference from PyTorch fp32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in sorted(measured, key=lambda r: -r["tokens_per_second"]):
        times = rates[r["name"]] / rates[original]
        lines.append(
            f"| {r['name']} | {r['tokens_per_second']:,.0f} ({r['slowest']:,.0f} to "
            f"{r['fastest']:,.0f}) | {times:.2f} × | "
            f"{r['share_of_peak']:.0%} | {r['padding_share']:.1%} | {r['peak_gb']:.1f} GB | "
            f"{r['parity']['relative']:.2g} σ |"
        )
    lines += [
        f"| {r['name']} | {reason(r)} | | | | | |" for r in result["results"] if not r.get("right")
    ]
    return "\n".join([*lines, ""])


def latency_table(path: Path, result: dict[str, Any]) -> str:
    """One row a competitor, a column a case."""
    measured = [r for r in result["results"] if r.get("right")]
    cases = [(case["rows"], case["tokens"]) for case in measured[0]["cases"]]
    lines = [
        f"{model_name(result)}, {machine_name(result)}: milliseconds for one request of so many "
        f"rows × tokens, medians ([all figures]({path.relative_to(README.parent)})).",
        "",
        "| | " + " | ".join(f"{rows} × {tokens:,}" for rows, tokens in cases) + " |",
        "|---|" + "---|" * len(cases),
    ]
    for r in sorted(measured, key=lambda r: float(r["cases"][1]["p50_ms"])):
        cells = [f"{case['p50_ms']:,.1f}" for case in r["cases"]]
        lines.append(f"| {r['name']} | " + " | ".join(cells) + " |")
    lines += [
        f"| {r['name']} | {reason(r)} |" + " |" * (len(cases) - 1)
        for r in result["results"]
        if not r.get("right")
    ]
    return "\n".join([*lines, ""])


def end_to_end_line(path: Path, result: dict[str, Any]) -> str:
    """What share of the engine's speed the command has, and where the rest would go."""
    command = statistics.median(result["command_seconds"])
    steps = {
        name: statistics.median(step[name] for step in result["steps"])
        for name in ("read", "tokenise", "run", "write")
    }
    told = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in steps.items())
    return (
        f"{model_name(result)}, {result['precision']}, {machine_name(result)}, {result['rows']:,} "
        f"rows: `harmless score` takes {command:,.1f} s, start-up included, "
        f"{result['engine_share']:.1%} of the engine's own speed. One after the other, the steps "
        f"that it overlaps take: {told}; a command for one row takes "
        f"{result['start_up_seconds']:.1f} s ([all figures]({path.relative_to(README.parent)})).\n"
    )


def footprint_line(path: Path, result: dict[str, Any]) -> str:
    """Memory and time to start, in a few sentences."""
    few, many = result["short_rows"][0], result["short_rows"][-1]
    starts = result["start_medians"]
    return (
        f"{model_name(result)}, {machine_name(result)}: `harmless --help` takes "
        f"{starts['help']:.2f} s and `harmless demo` {starts['demo']:.2f} s. With the bundled "
        f"model, {few['rows']:,} short rows take {few['peak_mb']:.0f} MB at most, and "
        f"{many['rows']:,} take {many['peak_mb']:.0f} MB ({result['short_rows_growth']:.2f} times "
        f"as much). Scoring a row in {result['precision']} takes {result['one_row_peak_gb']:.2f} "
        f"GB, {result['one_row_peak_over_weights']:.2f} times the weights "
        f"([all figures]({path.relative_to(README.parent)})).\n"
    )


def machine_name(result: dict[str, Any]) -> str:
    """What a result was measured on."""
    machine = result["machine"]
    return str(machine.get("gpu") or f"{machine['cpus']} cores of {machine['cpu']}").strip()


def reason(result: dict[str, Any]) -> str:
    """Why a competitor has no figures, as far as the first comma."""
    why = result.get("missing") or result.get("failed") or "scores too far from PyTorch's in fp32"
    return str(why).removeprefix("SessionError: ").split(",")[0]


def model_name(result: dict[str, Any]) -> str:
    """How a result's model is called."""
    size = result["model"].removeprefix("random:")
    drawn = f"Random weights of {size} size" if size != result["model"] else result["model"]
    return f"{drawn}, {result['provider']}"


def fill(path: Path, begin: str, text: str, end: str) -> None:
    """Put a text between two marks of a file."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


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
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure beside its result: neither a date nor random ids, so always the same file."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "harmless-scorer"
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def plot_latency(path: Path, result: dict[str, Any]) -> None:
    """Draw the medians over the length, one panel a number of rows, into an SVG."""
    import matplotlib.pyplot as plt

    measured = [r for r in result["results"] if r.get("right")]
    numbers = sorted({case["rows"] for case in measured[0]["cases"]})
    figure, panels = plt.subplots(
        1, len(numbers), figsize=(10, 4.5), layout="constrained", squeeze=False
    )
    for axes, rows in zip(panels[0], numbers, strict=True):
        for r in measured:
            cases = [case for case in r["cases"] if case["rows"] == rows]
            own = r["name"].startswith("harmless")
            axes.plot(
                [case["tokens"] for case in cases],
                [case["p50_ms"] for case in cases],
                marker="o",
                linewidth=2.5 if own else 1,
                linestyle="-" if own else "--",
                label=r["name"],
            )
        axes.set(xscale="log", yscale="log", xlabel="tokens a row", title=f"{rows} row(s)")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("milliseconds, median")
    panels[0][-1].legend(fontsize="small")
    figure.suptitle(model_name(result))
    save(figure, path)


def main() -> None:
    """Write the README's tables, and the plots if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plots", action="store_true")
    args = parser.parse_args()
    fill(README, BEGIN, tables(), END)
    fill(RELIABILITY, RESULTS_BEGIN, reliability(), RESULTS_END)
    if args.plots:
        for path, result in load("throughput"):
            plot_throughput(path, result)
        for path, result in load("latency"):
            plot_latency(path, result)


if __name__ == "__main__":
    main()
