"""Render what the README tells of results as Markdown tables."""

from suite.results import Result, machine_name, model_name
from suite.tables import TRUTH, is_right, markdown_table

# What the README compares, by the names of the competitors.
_COMPARED = {
    "harmless-int8": "**harmless-scorer**, int8",
    "harmless-fp32": "**harmless-scorer**, fp32",
    "compile-bf16": "PyTorch compiled, in bf16, with this project's batches",
    "crossencoder-bf16": "[CrossEncoder](https://sbert.net) of sentence-transformers, in bf16",
    "pytorch-bf16-original": "[the original scorer](https://github.com/OpenDataArena/"
    "OpenDataArena-Tool), PyTorch in bf16",
    "crossencoder-onnx": "CrossEncoder on ONNX Runtime",
}


_ROW_TOKENS = 150


def comparison_table(large: Result, small: Result) -> str:
    """One row for each competitor that people would use, for models of two sizes."""
    rates = [{r["name"]: r for r in result["results"] if is_right(r)} for result in (large, small)]
    rows = []
    for name, label in _COMPARED.items():
        entries = [own.get(name) for own in rates]
        speeds = [f"{e['tokens_per_second']:,.0f}" if e else "" for e in entries]
        worst = max(e["parity"]["relative"] for e in entries if e)
        rate = entries[0]["tokens_per_second"] if entries[0] else None
        hours = f"{_ROW_TOKENS * 100_000 / rate / 3600:,.0f} hours" if rate else ""
        rows.append([label, *speeds, hours, f"{worst:.2g} σ"])
    header = (
        "tokens/s", "GPT-2-large size, as the real model", "GPT-2-small size",
        f"100,000 rows of {_ROW_TOKENS} tokens, large size", "largest error, against PyTorch fp32",
    )  # fmt: skip
    return markdown_table(header, rows)


def sides_table(result: Result) -> str:
    """One row for each competitor: how many texts change side at a cut, the fewest first."""
    measured = [r for r in result["results"] if "changed_side" in r and r["name"] != TRUTH]
    texts = f"{2 * result['pairs']:,} texts of hh-rlhf"
    caption = f"{model_name(result)}, {machine_name(result)}, {texts}.\n\n"
    total = 2 * result["pairs"]
    rows = [
        [
            _COMPARED.get(r["name"], r["name"]),
            f"{r['parity']['relative']:.2g} σ",
            f"{round(r['changed_side'] * total)} of {total}",
        ]
        for r in sorted(measured, key=lambda r: float(r["parity"]["relative"]))
    ]
    header = ("", "largest error", "texts that change side")
    return caption + markdown_table(header, rows)
