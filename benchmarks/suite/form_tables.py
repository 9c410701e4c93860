"""Render what the forms of inputs and outputs cost as Markdown tables, for the documents."""

from pathlib import Path

from suite.results import Result, all_figures, load, machine_name
from suite.tables import markdown_table


def inputs_table() -> str:
    """One row for each form of input, for the documents' page about inputs."""
    tables = [_inputs_table(path, result) for path, result in load("inputs")]
    return "\n".join(tables + [_reading_table(path, result) for path, result in load("reading")])


def _reading_table(path: Path, result: Result) -> str:
    """One row for each form: the pace of reading alone, also of the code beside this one."""
    caption = _caption(path, result, "short rows, which are only read")
    least = {form: list(map(min, seconds.values())) for form, seconds in result["results"].items()}
    rows = [
        [
            form,
            *(f"{result['rows'] / seconds:,.0f}" for seconds in paces),
            f"{paces[-1] / paces[0]:.2f}",
        ]
        for form, paces in least.items()
    ]
    beside = [f"rows/s, {result['beside']}"] if result["beside"] else []
    return caption + markdown_table(("form", "rows/s", *beside, "share"), rows)


def _inputs_table(path: Path, result: Result) -> str:
    caption = _caption(path, result, "short rows with the bundled model")
    header = ("form", "rows/s, start-up included", "rows/s, reading alone", *_peaks(result))
    rows = []
    for form, measured in result["results"].items():
        speeds = [f"{result['rows'] / seconds:,.0f}" for seconds in sorted(measured["seconds"])]
        rows.append([
            form,
            speeds[0] if len(speeds) == 1 else f"{speeds[-1]} to {speeds[0]}",
            f"{result['rows'] / min(read):,.0f}" if (read := measured.get("read_seconds")) else "",
            f"{measured['few_peak_mb']:.0f} MB",
            f"{max(measured['peak_mb']):.0f} MB",
        ])  # fmt: skip
    return caption + markdown_table(header, rows)


def outputs_table() -> str:
    """One row for each last step and selection, for the documents' page about outputs."""
    return "\n".join(_outputs_table(path, result) for path, result in load("outputs"))


def _outputs_table(path: Path, result: Result) -> str:
    caption = _caption(path, result, "short rows")
    header = ("step", "seconds", *_peaks(result))
    rows = [
        [
            step,
            f"{measured['seconds']:.1f}",
            f"{measured['few_peak_mb']:.0f} MB",
            f"{measured['peak_mb']:.0f} MB",
        ]
        for step, measured in result["results"].items()
    ]
    return caption + markdown_table(header, rows)


def _caption(path: Path, result: Result, rows: str) -> str:
    link = all_figures(path)
    return f"{result['rows']:,} {rows}, {machine_name(result)} ({link}).\n\n"


def _peaks(result: Result) -> list[str]:
    """Return the headings of the columns for the peak memory with few rows, and with all."""
    return [f"peak memory, {result[count]:,} rows" for count in ("few_rows", "rows")]
