"""The reference says what is there: every command, flag, key, default and exit code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from harmless_runtime.cli import failures
from harmless_runtime.cli.commands import app
from harmless_runtime.config import ScorerConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def rows_of_table(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the table that begins with a heading."""
    _, _, rest = page.read_text().partition(f"\n| {heading} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_about_commands_is_what_help_says(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, DOCS / "write_commands.py", tmp_path / "commands.md"], check=True
    )
    written = (tmp_path / "commands.md").read_text()
    assert written == (DOCS / "commands.md").read_text(), "run python docs/write_commands.py"
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    assert "score" in group.commands
    for name, command in group.commands.items():
        assert f"## `harmless {name}`" in written
        for parameter in command.params:
            assert all(option in written for option in parameter.opts)


def test_every_key_is_in_the_table_with_its_default() -> None:
    table = {row[0].strip("`"): row[1].strip("`") for row in
             rows_of_table(DOCS / "configuration.md", "key")}  # fmt: skip
    fields = ScorerConfig.model_fields
    assert list(table) == list(fields)
    # Defaults that depend on the artifact, the machine or the rows are described.
    described = {
        "max_length": "the artifact's", "streams": "one for each core", "gpu_memory": "none",
        "format": "recognised", "columns": "none", "roles": "none",
    }  # fmt: skip
    for key, shown in table.items():
        default = fields[key].get_default(call_default_factory=True)
        if key in described:
            assert not default, key
            assert shown == described[key]
        else:
            assert shown == str(default).lower() if isinstance(default, bool) else str(default)


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "configuration.md"])
def test_every_exit_code_is_in_the_table(page: Path) -> None:
    codes = {int(code) for row in rows_of_table(page, "exit code") for code in row[0].split(",")}
    own = {value for name, value in vars(failures).items() if name.startswith("EXIT_")}
    assert own <= codes
    assert codes == own | {0, 1, 2, 130, 143}  # and those of signals


def commands_of(page: Path) -> list[str]:
    """Return the commands `harmless …` in the blocks of a page."""
    blocks = re.findall(r"^```(?:sh|text)\n(.*?)^```", page.read_text(), re.S | re.M)
    text = "".join(blocks).replace("\\\n", " ")
    found = re.findall(r"(?:^|[|;&] |do )((?:\.venv/bin/)?harmless [a-z][^|;&>\n]*)", text, re.M)
    return [command.split("  #")[0] for command in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_the_documents_can_be_parsed(page: Path) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for line in commands_of(page):
        name, *arguments = shlex.split(line)[1:]
        assert name in group.commands, line
        group.commands[name].make_context(name, [a for a in arguments if a != "…"])


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
