"""What the architecture tests read: the source of services, library and tests, as text and as trees."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
PENSTOCK = ROOT / "shared" / "penstock"


def named(path: Path) -> str:
    """A path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def modules(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def services() -> list[Path]:
    return sorted(path.parent for path in SERVICES.glob("*/__init__.py"))


def scripts() -> list[Path]:
    return sorted(path for folder in (SERVICES, PENSTOCK) for path in folder.rglob("lua/*.lua"))


def includes() -> list[Path]:
    return sorted((PENSTOCK / "includes").glob("*.lua"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def at(path: Path, node: ast.AST) -> str:
    return f"{named(path)}:{getattr(node, 'lineno', 0)}"


def imports(path: Path, *, typing_too: bool = True) -> list[tuple[str, ast.AST]]:
    """Dotted names a module imports, each with its node."""
    hidden: set[ast.AST] = set()
    if not typing_too:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                hidden.update(ast.walk(node))
    found: list[tuple[str, ast.AST]] = []
    for node in ast.walk(tree(path)):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node) for alias in node.names]
    return found


def texts(path: Path) -> list[ast.Constant]:
    """String literals of a module that are not documentation."""
    spoken = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken
    ]
