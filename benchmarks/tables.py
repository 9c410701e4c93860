"""Results of the benchmarks to Markdown: a table or a sentence for each."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
RELIABILITY_RESULTS = ROOT / "docs/results"
ORIGINALS = ("pytorch-bf16-original", "pytorch-fp32-original")


def load(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    """Read the results of a kind, the latest of each model, provider and machine."""
    latest: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"{kind}-*.json"), key=lambda p: p.stem.rsplit("-", 3)[1:]):
        result = json.loads(path.read_text())
        latest[path.stem.rsplit("-", 3)[0], result["provider"]] = (path, result)
    return list(latest.values())


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
    # Where the original's own bf16 is too slow to measure, its fp32 has to do, or the slowest.
    original = next(
        (name for name in ORIGINALS if name in rates), min(rates, key=rates.__getitem__)
    )
    passes, rounds = result.get("passes", 1), result["rounds"]
    medians = f"{passes} passes" if passes > 1 else f"{rounds} rounds"
    joined = f", {n} answers in each" if (n := result.get("join", 1)) > 1 else ""
    lines = [
        f"{model_name(result)}, {result['rows']} rows of {result['source']}{joined} "
        f"({result['tokens']:,} tokens), {machine_name(result)}, medians of "
        f"{medians} ([all figures]({path.relative_to(ROOT)})). "
        "Plain matrix products reach "
        + ", ".join(
            f"{peaks[f'{p}_flops'] / 1e9:,.0f} GFLOP/s in {p}"
            for p in ("fp32", "fp16", "bf16", "int8")
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
        f"rows × tokens, medians ([all figures]({path.relative_to(ROOT)})).",
        "",
        "| | " + " | ".join(f"{rows} × {tokens:,}" for rows, tokens in cases) + " |",
        "|---|" + "---|" * len(cases),
    ]
    for r in sorted(measured, key=lambda r: float(r["cases"][1]["p50_ms"])):
        cells = [f"{p50:,.{1 if p50 > 10 else 2}f}" for p50 in (c["p50_ms"] for c in r["cases"])]
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
        f"{result['start_up_seconds']:.1f} s ([all figures]({path.relative_to(ROOT)})).\n"
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
        f"([all figures]({path.relative_to(ROOT)})).\n"
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


def parity_table(path: Path, result: dict[str, Any]) -> str:
    """One row a competitor, the closest first."""
    lines = [
        f"{model_name(result)}, {machine_name(result)}, {result['pairs']:,} pairs of chosen and "
        f"rejected texts, against PyTorch in fp32 ([all figures]({path.relative_to(ROOT)})).",
        "",
        "| | largest difference | mean difference | Spearman correlation | pairs turned around |",
        "|---|---|---|---|---|",
    ]
    measured = [r for r in result["results"] if "parity" in r]
    for r in sorted(measured, key=lambda r: float(r["parity"]["relative"])):
        parity = r["parity"]
        mean = parity["mean_abs"] / parity["score_std"]
        lines.append(
            f"| {r['name']} | {parity['relative']:.2g} σ | {mean:.2g} σ | "
            f"{parity['spearman']:.6f} | {r['turned_pairs']:,} |"
        )
    lines += [
        f"| {r['name']} | {reason(r)} | | | |" for r in result["results"] if "parity" not in r
    ]
    return "\n".join([*lines, ""])


def ablations_table(path: Path, result: dict[str, Any]) -> str:
    """One row a variant, in the order in which they were run."""
    lines = [
        f"{model_name(result)}, {result['precision']}, {machine_name(result)}, {result['rows']:,} "
        f"rows, one thing different at a time ([all figures]({path.relative_to(ROOT)})).",
        "",
        "| | tokens/s | at the first pass | shapes | padding | one row of 170 tokens | "
        "difference in the scores |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in result["results"]:
        if r.get("right"):
            lines.append(
                f"| {r['name']} | {r['tokens_per_second']:,.0f} | "
                f"{r['first_tokens_per_second']:,.0f} | {r['shapes']:.0f} | "
                f"{r['padding_share']:.1%} | {r['latency_ms']:.2f} ms | "
                f"{r['largest_difference']:.2g} σ |"
            )
        else:
            lines.append(f"| {r['name']} | {reason(r)} | | | | | |")
    return "\n".join([*lines, ""])


def host_table(path: Path, result: dict[str, Any]) -> str:
    """What of a simulated device's pace comes out of the whole pipeline."""
    lines = [
        f"A device simulated by pauses, {result['rows']:,} rows of {result['source']}, "
        f"{machine_name(result)} ([all figures]({path.relative_to(ROOT)})).",
        "",
        "| pace of the device, tokens/s with padding | share of it that comes out | padding | "
        "shapes | commits | time in commits |",
        "|---|---|---|---|---|---|",
    ]
    for entry in result["results"]:
        run = max(entry["runs"], key=lambda run: float(run["share_of_pace"]))
        shares = sorted(run["share_of_pace"] for run in entry["runs"])
        lines.append(
            f"| {entry['pace']:,.0f} | {shares[0]:.1%} to {shares[-1]:.1%} | "
            f"{run['padding_share']:.1%} | {run['shapes']} | {run['commits']} | "
            f"{run['commit_share']:.2%} |"
        )
    return "\n".join([*lines, ""])


def export_table() -> str:
    """A column a precision: the parity that an export finds, and what it takes."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("export-*.json"))]
    results.sort(key=lambda r: ("fp32", "fp16", "int8").index(r["precision"]))
    parities = [r["parity"][0] for r in results]

    def cost(key: str) -> list[str]:
        return [f"{r[key]['seconds']:.0f} s, {r[key]['peak_gb']:.1f} GB" for r in results]

    rows = {
        "": [r["precision"] for r in results],
        "---": ["---"] * len(results),
        "largest difference, in standard deviations of the scores": [
            f"{p['relative']:.2g}" for p in parities
        ],
        f"pairs of texts that change order, of {parities[0]['pairs']:,}": [
            str(p["reordered"]) for p in parities
        ],
        "Spearman correlation": [f"{p['spearman']:.4f}" for p in parities],
        "export: seconds, peak memory": cost("export"),
        "export and verification": cost("export_and_verify"),
    }
    return "".join(f"| {name} | {' | '.join(cells)} |\n" for name, cells in rows.items())


# In the order of the README.
RENDERERS: dict[str, Callable[[Path, dict[str, Any]], str]] = {
    "throughput": throughput_table,
    "latency": latency_table,
    "parity": parity_table,
    "ablations": ablations_table,
    "end-to-end": end_to_end_line,
    "host": host_table,
    "footprint": footprint_line,
}


def tables() -> str:
    """Render every result."""
    return "\n".join(
        render(path, result) for kind, render in RENDERERS.items() for path, result in load(kind)
    )
