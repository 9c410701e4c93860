"""Make the picture of a report in the README: score the bundled texts, and open the page.

python docs/make_picture.py        # needs Chromium, and the extras report and test
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from harmless_runtime import bundled

PICTURE = Path(__file__).parent / "images" / "report.png"
WIDTH, HEIGHT = 860, 1010


def harmless(*arguments: str, folder: Path) -> None:
    """Run the command in a folder."""
    command = [sys.executable, "-m", "harmless_runtime", *arguments]
    subprocess.run(command, check=True, cwd=folder)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [json.loads(line) for line in bundled.PAIRS.read_text().splitlines()]
        rows = [
            {"id": f"{pair['id']}-{side}", "text": pair[side]}
            for pair in texts
            for side in ("chosen", "rejected")
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        scored = ["score", "rows.jsonl", "-o", "scores.jsonl", "--columns", "output=text"]
        harmless(*scored, "--model", "demo", folder=folder)
        harmless("report", "scores.jsonl", "-o", "report.html", folder=folder)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1.5
            )
            page.goto((folder / "report.html").as_uri())
            PICTURE.parent.mkdir(exist_ok=True)
            page.screenshot(path=PICTURE)
            browser.close()


if __name__ == "__main__":
    main()
