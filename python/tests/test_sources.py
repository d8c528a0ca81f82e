"""The rules of the house, read from the package's sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("milepost/**/*.py*"), *ROOT.glob("tests/**/*.py")])
#: A stub of the native module may list what it must.
LINES_MAX, FUNCTION_LINES_MAX, COLUMNS_MAX = 400, 70, 100
SHOWN = [p for p in SOURCES if p.suffix in (".py", ".pyi")]


@pytest.mark.parametrize("path", SHOWN, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_are_short_and_ascii_and_functions_fit_a_screen(path: Path) -> None:
    source = path.read_text()
    lines = source.splitlines()
    assert source.isascii() and len(lines) <= LINES_MAX
    assert not [n for n, line in enumerate(lines, 1) if len(line) > COLUMNS_MAX]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            documented = ast.get_docstring(node) or ""
            assert length - len(documented.splitlines()) <= FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("path", [p for p in SHOWN if "milepost/" in p.as_posix()], ids=str)
def test_what_is_public_is_documented(path: Path) -> None:
    if path.suffix == ".pyi":
        return
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            named = [node, *(m for m in node.body if isinstance(m, ast.FunctionDef))]
            for member in named if not node.name.startswith("_") else []:
                hidden = member.name.startswith("_")
                assert hidden or ast.get_docstring(member), f"{path}: {node.name}.{member.name}"


def test_importing_the_package_imports_no_framework() -> None:
    import subprocess
    import sys

    code = (
        "import milepost, sys; "
        "print([m for m in ('numpy', 'torch', 'jax', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout == "[]\n", done.stderr
