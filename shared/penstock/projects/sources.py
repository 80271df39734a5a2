"""A file of Python as far as it can be understood without running it; nothing of it is executed here."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from penstock.client.wording import did_you_mean
from penstock.errors import Invalid, NotFound
from penstock.templates.problems import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_SHOWN: Final = 10
"""Functions or files an error lists at most."""

MAX_DESCRIPTION: Final = 2000
"""Characters that are taken of a docstring."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Source:
    """Names a file binds at its outermost level.

    Attributes:
        names: all of them; what they are bound to, where that is a function.
        open: a ``from x import *``: there may be others.
    """

    names: dict[str, _Function | None] = field(default_factory=dict)
    open: bool = False

    @property
    def functions(self) -> list[str]:
        """Names of functions, in the order of the file."""
        return [name for name, node in self.names.items() if node is not None]


def split_entrypoint(entrypoint: str) -> tuple[str, str]:
    """Split ``path/to/file.py:function``.

    Raises:
        Invalid: it is not of that form.
    """
    path, colon, function = entrypoint.rpartition(":")
    if not (colon and path and function.isidentifier()):
        hint = "give the file and the function: path/to/file.py:function"
        if entrypoint.endswith(".py"):
            hint = f"give the function, too: {entrypoint}:function"
        raise Invalid(f"entrypoint {entrypoint!r} is not of the form path/to/file.py:function", hint)
    return path, function


def read_source(path: Path, shown: str) -> Source:
    """Read a file.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        NotFound: there is no such file.
        Invalid: it is no Python; names the line.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as problem:
        raise _no_file(path, shown, problem) from problem
    try:
        tree = ast.parse(data, filename=shown)
    except SyntaxError as problem:
        place = f"{shown}:{problem.lineno}" if problem.lineno else shown
        raise Invalid(f"{place}: {problem.msg}", "this file cannot be imported as it is") from problem
    except (ValueError, RecursionError, MemoryError) as problem:
        raise Invalid(f"{shown} is no Python that can be read: {problem}") from problem
    source = Source()
    _bind(tree.body, source)
    return source


def ensure_function(source: Source, function: str, shown: str) -> None:
    """Refuse a function that is not in a file.

    Raises:
        NotFound: suggests the one that was meant, or lists those there are.
    """
    if function not in source.names and not source.open:
        raise no_function(function, shown, source.functions)


def no_function(function: str, shown: str, known: list[str]) -> NotFound:
    """Make the error of a function that is not there."""
    listed = ", ".join(known[:MAX_SHOWN]) + (", ..." if len(known) > MAX_SHOWN else "")
    hint = did_you_mean(function, known) or (f"it has {listed}" if known else "it has no functions")
    return NotFound(f"{shown} has no function '{function}'", hint)


def flow_name(source: Source, function: str) -> str:
    """Name the flow as it would be after an import: ``@flow(name=...)``, or the function's name."""
    node = source.names.get(function)
    for decorator in node.decorator_list if node else ():
        if isinstance(decorator, ast.Call) and _is_flow(decorator):
            for keyword in decorator.keywords:
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and keyword.value.value:
                    return str(keyword.value.value)
    return (node.name if node else function).replace("_", "-")


def description(source: Source, function: str) -> str | None:
    """First paragraph of a function's docstring."""
    node = source.names.get(function)
    return first_paragraph(ast.get_docstring(node) if node else None)


def first_paragraph(text: str | None) -> str | None:
    """One line of what stands before the first empty one; None when there is nothing."""
    lines = (text or "").strip().splitlines()
    end = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    return shortened(" ".join(line.strip() for line in lines[:end]), MAX_DESCRIPTION) or None


def outline(source: Source, function: str) -> dict[str, Any] | None:
    """Names of a function's parameters as a JSON Schema that allows any value; None when nothing is certain."""
    node = source.names.get(function)
    if node is None or not all(_is_flow(decorator) for decorator in node.decorator_list):
        # Any other decorator may change what the function takes.
        return None
    positional = node.args.args
    named = {one.arg: default is None for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)}
    first_default = len(positional) - len(node.args.defaults)
    required = [one.arg for number, one in enumerate(positional) if number < first_default]
    required += [name for name, needed in named.items() if needed]
    return {
        "type": "object",
        "properties": {name: {} for name in [*(one.arg for one in positional), *named]},
        **({"required": required} if required else {}),
        "additionalProperties": node.args.kwarg is not None,
    }


def _is_flow(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2] == "flow"


def _bind(body: Iterable[ast.stmt], source: Source) -> None:
    for node in body:
        if isinstance(node, _Function):
            source.names.pop(node.name, None)
            source.names[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            source.open = True
        else:
            for name in _bound(node):
                source.names[name] = None
            for inner in ("body", "orelse", "finalbody"):
                if not isinstance(node, ast.ClassDef):
                    _bind(getattr(node, inner, ()), source)
            for handler in getattr(node, "handlers", ()):
                _bind(handler.body, source)


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for one in ast.walk(target):
                if isinstance(one, ast.Name):
                    yield one.id


def _no_file(path: Path, shown: str, problem: Exception) -> NotFound:
    if path.is_dir():
        return NotFound(f"{shown} is a directory", "give a file of Python: path/to/file.py:function")
    try:
        beside = sorted(one.name for one in path.parent.glob("*.py"))
    except (OSError, ValueError):
        beside = []
    if isinstance(problem, FileNotFoundError):
        hint = did_you_mean(path.name, beside)
        return NotFound(f"there is no file {shown} (looked for {path})", hint or "paths are relative to the project")
    return NotFound(f"cannot read {shown}: {getattr(problem, 'strerror', None) or problem}")
