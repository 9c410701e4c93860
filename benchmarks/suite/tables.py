"""Render results as tables in Markdown."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from suite.results import (
    RESULTS,
    Result,
    all_figures,
    machine_name,
    model_name,
    reason,
)

TRUTH = "pytorch-fp32-original"
ORIGINALS = ("pytorch-bf16-original", TRUTH)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. A row that has fewer cells than the header is filled with empty ones."""
    lines = [f"| {' | '.join(header)} |".replace("|  |", "| |"), "|---" * len(header) + "|"]
    for row in rows:
        empty = " |" * (len(header) - len(row))
        lines.append(f"| {' | '.join(row)} |{empty}")
    return "\n".join([*lines, ""])


def split(
    result: Result, is_measured: Callable[[Result], bool]
) -> tuple[list[Result], list[Result]]:
    """Split the entries of a result into those with figures and those without."""
    entries = result["results"]
    return [r for r in entries if is_measured(r)], [r for r in entries if not is_measured(r)]


def is_right(entry: Result) -> bool:
    """Return whether an entry has figures and its scores are right."""
    return bool(entry.get("right"))


def without_figures(entries: Iterable[Result]) -> list[list[str]]:
    """Return the rows of competitors that could not be measured."""
    return [[r["name"], reason(r)] for r in entries]


def throughput_table(path: Path, result: Result) -> str:
    """One row for each competitor, the fastest first."""
    peaks = result["matrix_products"]
    measured, failed = split(result, is_right)
    rates = {r["name"]: r["tokens_per_second"] for r in measured}
    # If the original's own bf16 was too slow to measure, its fp32 is compared, or the slowest.
    original = next(
        (name for name in ORIGINALS if name in rates), min(rates, key=rates.__getitem__)
    )
    passes, rounds = result.get("passes", 1), result["rounds"]
    medians = f"{passes} passes" if passes > 1 else f"{rounds} rounds"
    joined = f", {n} answers in each" if (n := result.get("join", 1)) > 1 else ""
    products = ", ".join(
        f"{peaks[f'{p}_flops'] / 1e9:,.0f} GFLOP/s in {p}"
        for p in ("fp32", "fp16", "bf16", "int8")
        if f"{p}_flops" in peaks
    )
    caption = (
        f"{model_name(result)}, {result['rows']} rows of {result['source']}{joined} "
        f"({result['tokens']:,} tokens), {machine_name(result)}, medians of {medians} "
        f"({all_figures(path)}). Plain matrix products reach {products} there.\n\n"
    )
    header = (
        "", "tokens/s (range)", f"against {original}", "share of the matrix-product peak",
        "padding", "peak memory", "largest difference from PyTorch fp32",
    )  # fmt: skip
    rows = [
        [
            r["name"],
            f"{r['tokens_per_second']:,.0f} ({r['slowest']:,.0f} to {r['fastest']:,.0f})",
            f"{rates[r['name']] / rates[original]:.2f} ×",
            f"{r['share_of_peak']:.0%}",
            f"{r['padding_share']:.1%}",
            f"{r['peak_gb']:.1f} GB",
            f"{r['parity']['relative']:.2g} σ",
        ]
        for r in sorted(measured, key=lambda r: -r["tokens_per_second"])
    ]
    return caption + markdown_table(header, rows + without_figures(failed))


def latency_table(path: Path, result: Result) -> str:
    """One row for each competitor, one column for each case."""
    measured, failed = split(result, is_right)
    cases = [(case["rows"], case["tokens"]) for case in measured[0]["cases"]]
    caption = (
        f"{model_name(result)}, {machine_name(result)}: milliseconds for one request of so many "
        f"rows × tokens, medians ({all_figures(path)}).\n\n"
    )
    header = ["", *(f"{rows} × {tokens:,}" for rows, tokens in cases)]
    rows = [
        [
            r["name"],
            *(f"{p50:,.{1 if p50 > 10 else 2}f}" for p50 in (c["p50_ms"] for c in r["cases"])),
        ]
        for r in sorted(measured, key=lambda r: float(r["cases"][1]["p50_ms"]))
    ]
    return caption + markdown_table(header, rows + without_figures(failed))


def parity_table(path: Path, result: Result) -> str:
    """One row for each competitor, the closest first."""
    measured, failed = split(result, lambda r: "parity" in r)
    caption = (
        f"{model_name(result)}, {machine_name(result)}, {result['pairs']:,} pairs of chosen and "
        f"rejected texts, against PyTorch in fp32 ({all_figures(path)}).\n\n"
    )
    header = (
        "", "largest difference", "mean difference", "Spearman correlation", "pairs turned around",
        "texts that change side if a tenth is dropped",
    )  # fmt: skip
    rows = [
        [
            r["name"],
            f"{r['parity']['relative']:.2g} σ",
            f"{r['parity']['mean_abs'] / r['parity']['score_std']:.2g} σ",
            f"{r['parity']['spearman']:.6f}",
            f"{r['turned_pairs']:,}",
            f"{r['changed_side']:.1%}" if "changed_side" in r else "",
        ]
        for r in sorted(measured, key=lambda r: float(r["parity"]["relative"]))
    ]
    return caption + markdown_table(header, rows + without_figures(failed))


def ablations_table(path: Path, result: Result) -> str:
    """One row for each variant, in the order in which they were run."""
    caption = (
        f"{model_name(result)}, {result['precision']}, {machine_name(result)}, {result['rows']:,} "
        f"rows, one thing different at a time ({all_figures(path)}).\n\n"
    )
    header = (
        "", "tokens/s", "at the first pass", "shapes", "padding", "one row of 170 tokens",
        "difference in the scores",
    )  # fmt: skip
    rows = [
        [
            r["name"],
            f"{r['tokens_per_second']:,.0f}",
            f"{r['first_tokens_per_second']:,.0f}",
            f"{r['shapes']:.0f}",
            f"{r['padding_share']:.1%}",
            f"{r['latency_ms']:.2f} ms",
            f"{r['largest_difference']:.2g} σ",
        ]
        if is_right(r)
        else [r["name"], reason(r)]
        for r in result["results"]
    ]
    return caption + markdown_table(header, rows)


def host_table(path: Path, result: Result) -> str:
    """One row for each pace of a simulated device."""
    caption = (
        f"A device simulated by pauses, {result['rows']:,} rows of {result['source']}, "
        f"{machine_name(result)} ({all_figures(path)}).\n\n"
    )
    header = (
        "pace of the device, tokens/s with padding", "share of it that comes out", "padding",
        "shapes", "commits", "time in commits",
    )  # fmt: skip
    rows = []
    for entry in result["results"]:
        best = max(entry["runs"], key=lambda run: float(run["share_of_pace"]))
        shares = sorted(run["share_of_pace"] for run in entry["runs"])
        rows.append([
            f"{entry['pace']:,.0f}",
            f"{shares[0]:.1%} to {shares[-1]:.1%}",
            f"{best['padding_share']:.1%}",
            str(best["shapes"]),
            str(best["commits"]),
            f"{best['commit_share']:.2%}",
        ])  # fmt: skip
    return caption + markdown_table(header, rows)


def export_table() -> str:
    """One column for each precision: the parity that an export finds, and its cost."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("export-*.json"))]
    results.sort(key=lambda r: ("fp32", "fp16", "int8").index(r["precision"]))
    parities = [r["parity"][0] for r in results]

    def cost(key: str) -> list[str]:
        return [f"{r[key]['seconds']:.0f} s, {r[key]['peak_gb']:.1f} GB" for r in results]

    largest = [f"{p['relative']:.2g}" for p in parities]
    rows = [
        ["largest difference, in standard deviations of the scores", *largest],
        [
            f"pairs of texts that change order, of {parities[0]['pairs']:,}",
            *(str(p["reordered"]) for p in parities),
        ],
        ["Spearman correlation", *(f"{p['spearman']:.4f}" for p in parities)],
        ["export: seconds, peak memory", *cost("export")],
        ["export and verification", *cost("export_and_verify")],
    ]
    return markdown_table(["", *(r["precision"] for r in results)], rows)
