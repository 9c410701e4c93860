"""Make runs to report on, and open pages in a browser."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextmanager
def opened(
    path: Path, *, width: int = 1200, dark: bool = False
) -> Iterator[tuple[Page, list[str]]]:
    """Open a page in a headless browser. The list is of what went wrong, and of all requests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
        )
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: None if request.url == path.as_uri() else wrong.append(request.url),
        )
        page.goto(path.as_uri())
        yield page, wrong
        browser.close()


def write_run(
    folder: Path, rows: list[dict[str, Any]], scores: list[float | None], name: str = "scores"
) -> Path:
    """Write rows and their scores, as a run without a record leaves them; return the scores."""
    source, out = folder / "rows.jsonl", folder / f"{name}.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        json.dumps({"id": row.get("id", ""), "score": score})
        for row, score in zip(rows, scores, strict=True)
        if score is not None
    ]
    out.write_text("".join(line + "\n" for line in lines))
    rejects = [
        json.dumps({"source": str(source), "line": i, "reason": "no text", "raw": "{}"})
        for i, score in enumerate(scores, 1)
        if score is None
    ]
    if rejects:
        (folder / f"{name}.rejects.jsonl").write_text("".join(line + "\n" for line in rejects))
    return out


def data_of(path: Path) -> Any:
    """Return what a page holds as JSON."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>',
                      path.read_text(), re.DOTALL)  # fmt: skip
    assert found
    return json.loads(found[1])
