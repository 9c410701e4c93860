"""The layout: imports point one way, and every module is short."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the bottom to the top: each part imports only parts of earlier lines, and itself.
LAYERS = [
    {"choices", "errors"},
    {"bundled", "cache", "config", "counted"},
    {"model", "rows"},
    {"object_store"},
    {"run", "tally"},
    {"scores", "windows"},
    {"output", "read_ahead"},
    {"scored"},
    {"item_scores", "pipeline"},
    {"evaluation", "report", "scorer"},
    {"cluster", "demo", "helpful", "jobs", "serve"},
    {"cli", "opendataarena", "reward"},
]
RANKS = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
# The package's own version, which every part may read.
VERSION = "__version__"


def module_name(path: Path) -> str:
    """Return a module's name below its package, such as `output.disk`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[2:])


def modules(package: str) -> list[Path]:
    """Return the modules of a package, without the `__init__` at its top."""
    (folder,) = ROOT.glob(f"*/{package}")
    return sorted(p for p in folder.rglob("*.py") if p not in {folder / "__init__.py"})


def imported_parts(path: Path) -> Iterator[str]:
    """Yield the parts of `harmless_runtime` that a module imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "harmless_runtime" and rest and rest != VERSION:
                yield rest.split(".")[0]


@pytest.mark.parametrize("path", modules("harmless_runtime"), ids=module_name)
def test_imports_of_the_runtime_point_down(path: Path) -> None:
    part = path.relative_to(ROOT / "runtime/harmless_runtime").parts[0].removesuffix(".py")
    if part == "__main__":
        return
    for imported in imported_parts(path):
        down = imported == part or RANKS[imported] < RANKS[part]
        assert down, f"{part} imports {imported}, which is not below it"


@pytest.mark.parametrize("path", modules("harmless_export"), ids=module_name)
def test_the_export_stands_on_rows_and_model_alone(path: Path) -> None:
    assert set(imported_parts(path)) <= {
        "bundled", "choices", "config", "errors", "model", "rows",
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["benchmarks", "export", "runtime", "tests"])
def test_no_module_has_more_than_400_lines(folder: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lengths
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_the_test_sees_an_import_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import harmless_runtime.config\nfrom harmless_runtime import bundled, __version__\n"
        "def f():\n    from harmless_runtime.output.disk import sync\n"
    )
    assert list(imported_parts(path)) == ["config", "bundled", "output"]
