"""Pages in a real browser: the cut is moved, rows are searched, and no text does any harm."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from pages import CHROMIUM, opened, write_run
from playwright.sync_api import Page

from harmless_runtime.report.comparison import make_comparison
from harmless_runtime.report.report import make_report
from harmless_runtime.report.scored_rows import open_scored_rows

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="not run: there is no Chromium")

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<!-- <script> --> ]]> &lt;b&gt; &amp;",
    "<style>body{display:none}</style>",
    "\u202egnirts desrever\u202c and \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "bell \x07 escape \x1b[31m null \x00 end \x9b \u2028 line",
    "'\"`${alert(3)}`\\",
    "long " * 20_000,
    "{{constructor.constructor('alert(4)')()}}",
]


def make_rows(count: int) -> list[dict[str, Any]]:
    rng = random.Random(1)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        answer = " ".join(rng.choices(["yes", "no", "maybe", "never", "always"], k=1 + i % 90))
        if i < 3 * len(HOSTILE):
            answer = HOSTILE[i % len(HOSTILE)]
        instruction = f"{HOSTILE[i % len(HOSTILE)][:300]} number {i}" if i % 7 == 0 else f"ask {i}"
        rows.append(
            {
                "id": f"row-{i}",
                "instruction": instruction,
                "output": answer,
                "kind": HOSTILE[i % 4] if i % 5 == 0 else f"kind {i % 3}",
            }
        )
    return rows


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A report over 900 rows, of which the hostile ones have extreme scores, and the scores."""
    folder = tmp_path_factory.mktemp("report")
    rng = random.Random(2)
    scores = [(-1) ** i * (4 + i / 10) if i < 30 else rng.gauss(0, 1) for i in range(900)]
    out = write_run(folder, make_rows(900), list(scores))
    path = folder / "report.html"
    path.write_bytes(make_report(open_scored_rows(str(out), [str(folder / "rows.jsonl")], "kind")))
    return path, scores


def kept_rows(page: Page) -> int:
    told = re.match(r"([\d,]+) rows kept", page.inner_text("#kept"))
    assert told
    return int(told[1].replace(",", ""))


@pytest.mark.parametrize(("width", "dark"), [(1200, True), (390, False)])
def test_the_cut_is_moved_and_rows_are_searched(
    width: int, dark: bool, page_file: tuple[Path, list[float]]
) -> None:
    path, scores = page_file
    with opened(path, width=width, dark=dark) as (page, wrong):
        assert page.title() == str(path.with_name("scores.jsonl"))
        page.fill("#value", "0.5")
        page.press("#value", "Enter")
        cut = float(page.input_value("#value"))
        assert cut == pytest.approx(0.5, abs=0.02)
        assert kept_rows(page) == sum(score >= cut for score in scores)
        assert page.inner_text(".command .above") == page.input_value("#value")
        visible = page.locator("#histogram svg:visible")
        assert visible.count() == 1
        before = visible.locator("path.dropped").count()
        page.locator("#cut").focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        moved = float(page.input_value("#value"))
        assert moved > cut
        assert kept_rows(page) == sum(score >= moved for score in scores)
        assert visible.locator("path.dropped").count() > before
        page.click("text=drop 25%")
        assert kept_rows(page) == pytest.approx(675, abs=8)
        near = [float(text) for text in page.locator("#near-above .score").all_inner_texts()]
        below = [float(text) for text in page.locator("#near-below .score").all_inner_texts()]
        at = float(page.input_value("#value"))
        assert len(near) == len(below) == 4
        assert min(near) >= at - 1e-3
        assert max(below) < at + 1e-3
        # The rows: the lowest first, then others, then a search.
        shown = [float(text) for text in page.locator("#list .score").all_inner_texts()]
        assert shown == sorted(shown)
        assert shown[0] == pytest.approx(min(scores), abs=1e-3)
        page.click("#views >> text=highest")
        shown = [float(text) for text in page.locator("#list .score").all_inner_texts()]
        assert shown[0] == pytest.approx(max(scores), abs=1e-3)
        page.fill("#search", "ONERROR=alert")
        assert "found" in page.inner_text("#found")
        found = page.locator("#list .row")
        assert 0 < found.count() < len(shown)
        page.fill("#search", "no row says this")
        assert "no row holds these words" in page.inner_text("#list")
        page.fill("#search", "")
        page.locator("#list .more").first.click()
        # Nothing is wider than the window.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Another variant of the chart is shown, and has the cut in the same place.
        page.set_viewport_size({"width": 390 if width == 1200 else 1200, "height": 900})
        shown_line = page.locator("#histogram svg:visible line.cut").bounding_box()
        plot = page.locator("#histogram svg:visible path.background").first.bounding_box()
        assert shown_line
        assert plot
        share = (shown_line["x"] - plot["x"]) / plot["width"]
        slider = page.locator("#cut")
        wanted = float(slider.input_value()) / float(slider.get_attribute("max") or 1)
        assert share == pytest.approx(wanted, abs=0.02)
        assert shown_line["height"] == pytest.approx(plot["height"], rel=0.05)
        assert wrong == []


def test_no_text_becomes_a_part_of_the_page(page_file: tuple[Path, list[float]]) -> None:
    path, _ = page_file
    with opened(path) as (page, wrong):
        assert page.locator("script").count() == 2
        assert page.locator("img, iframe, link, object, embed, base").count() == 0
        assert page.locator("style").count() == 1 + page.locator("svg style").count()
        page.click("#views >> text=highest")
        texts = page.locator("#list .text").all_inner_texts()
        page.click("#views >> text=lowest")
        texts += page.locator("#list .text").all_inner_texts()
        told = "\n".join(texts)
        assert "</script><script>alert(1)</script>" in told
        assert "bell ␇ escape ␛[31m null ␀ end" in told
        assert "more characters)" in told, "long texts are cut"
        assert page.evaluate("getComputedStyle(document.body).display") == "block"
        assert wrong == []
    content = path.read_text()
    assert "default-src 'none'" in content
    assert len(content) < 1_500_000


def test_a_share_of_equal_scores_is_the_nearest_that_can_be_dropped(tmp_path: Path) -> None:
    scores = [0.0] * 70 + [1.0] * 20 + [2.0] * 10
    out = write_run(tmp_path, [{"id": i} for i in range(100)], [*scores])
    path = tmp_path / "report.html"
    path.write_bytes(make_report(open_scored_rows(str(out), [], None)))
    with opened(path) as (page, wrong):
        for share, kept in (("50%", 30), ("25%", 100), ("10%", 100)):
            page.click(f"text=drop {share}")
            assert kept_rows(page) == kept
        assert wrong == []


def test_two_outputs_are_compared(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = make_rows(300)
    first = [rng.gauss(0, 1) for _ in rows]
    second: list[float | None] = [score + rng.gauss(0, 0.05) for score in first]
    second[17], second[100] = 9.0, None
    outs = [write_run(tmp_path, rows, [*s], n) for s, n in ((first, "a"), (second, "b"))]
    source = [str(tmp_path / "rows.jsonl")]
    path = tmp_path / "report.html"
    path.write_bytes(make_comparison(*(open_scored_rows(str(out), source, None) for out in outs)))
    with opened(path, width=390) as (page, wrong):
        assert "299" in page.inner_text(".tiles")
        assert page.locator("#list .score").first.inner_text().endswith("→ 9")
        assert page.locator("svg path").count() > 299
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert wrong == []
