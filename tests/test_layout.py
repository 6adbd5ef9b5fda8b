"""The house as the README draws it, and the budget of its files and functions."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("streamctr", "connectors", "jobs")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_within_the_budget(path):
    text = path.read_text()
    limit = 200 if path.parent.name in ("models", "connectors") else 400
    assert len(text.splitlines()) <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 50, node.name


def drawn():
    """Paths that the README's tree names: two spaces of indent a level, then the name, then what it is for."""
    tree = re.search(r"<!-- tree -->\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    paths, folders = [], []
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        paths.append("".join(folders) + ("" if name.endswith("/") else name))
        assert len(line.split()) > 2, f"{name} has no word on what it is for"
    return paths


def test_the_readme_draws_the_tree_as_it_is():
    found = [str(path.relative_to(ROOT)) for path in MODULES if path.stat().st_size > 0]
    found += [str(path.relative_to(ROOT)) for path in (ROOT / "jobs" / "examples").iterdir()]
    assert sorted(path for path in drawn() if not path.endswith("/") and path.split("/")[0] in ROOMS) == sorted(found)
