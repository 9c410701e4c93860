"""Draw the results of the benchmarks as SVG plots beside the result files."""

from pathlib import Path
from typing import Any

from suite.results import model_name


def plot_throughput(path: Path, result: dict[str, Any]) -> None:
    """Draw tokens per second as bars, with the range of the rounds."""
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
    axes.set_xlabel("real tokens per second")
    axes.set_title(f"{model_name(result)}, {result['rows']} rows")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def plot_load(path: Path, result: dict[str, Any]) -> None:
    """Draw what a server answers, and how long a request takes, over the number of clients."""
    import matplotlib.pyplot as plt

    clients = [load["clients"] for load in result["results"]]
    figure, (rates, times) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    rates.plot(clients, [load["rows_per_second"] for load in result["results"]], marker="o")
    rates.axhline(result["alone"], linestyle="--", color="#9aa5b1", label="the engine alone")
    rates.set(ylabel="rows per second", ylim=(0, None))
    rates.legend(fontsize="small")
    for name, style in (("p99", "--"), ("p50", "-")):
        times.plot(
            clients, [load[f"{name}_ms"] for load in result["results"]], marker="o",
            linestyle=style, label=name,
        )  # fmt: skip
    times.set(ylabel="milliseconds", yscale="log")
    times.legend(fontsize="small")
    for axes in (rates, times):
        axes.set(xscale="log", xlabel="clients")
        axes.set_xticks(clients, [str(count) for count in clients])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"harmless serve, one row a request, the model {result['model']}")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure as an SVG. It has neither a date nor random ids, so it is always the same."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "harmless-scorer"
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def plot_latency(path: Path, result: dict[str, Any]) -> None:
    """Draw the median latency over the length, with one panel for each number of rows."""
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
