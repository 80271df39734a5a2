"""Take one safeguard out of the product, from outside: the text of a script or module is changed while a process loads it.

A mutation whose text is not found exactly once is refused: product and list have drifted apart, and nothing would be proved.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from tests.system.chaos.mix import Mix

VARIABLE: Final = "CHAOS_MUTATION"
ROOT: Final = Path(__file__).parents[3]
SOURCE_ROOTS: Final = ("shared/",)
"""Folders that are no part of a module's name."""


class Rotten(Exception):
    """A mutation does not fit the product any more."""


@dataclass(frozen=True)
class Mutation:
    """One safeguard less.

    Attributes:
        name: on the command line.
        out: what is taken out, for people.
        file: of the product, from its root.
        find: the text, there exactly once.
        put: what stands there instead.
        promises: of these at least one must be found broken.
        mix: what reaches it quickly.
        seconds: how long faults strike.
    """

    name: str
    out: str
    file: str
    find: str
    put: str
    promises: frozenset[int]
    mix: Mix = field(repr=False)
    seconds: float = 4.0

    @property
    def source(self) -> str:
        """The file as it is."""
        return (ROOT / self.file).read_text(encoding="utf-8")

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.source[: self._start(self.source)].count(chr(10)) + 1}"

    @property
    def module(self) -> str:
        """Dotted name of the Python module, or of the package whose folder has the script."""
        path = self.file
        for root in SOURCE_ROOTS:
            path = path.removeprefix(root)
        return path.removesuffix(".py").replace("/", ".")

    def apply(self, text: str) -> str:
        """Change the file's text.

        Raises:
            Rotten: what is to be taken out is not there exactly once.
        """
        start = self._start(text)
        return text[:start] + self.put + text[start + len(self.find) :]

    def _start(self, text: str) -> int:
        if text.count(self.find) != 1:
            raise Rotten(f"{self.name}: {self.file} has {self.find!r} {text.count(self.find)} times, not once")
        return text.index(self.find)


class _Loader(SourceFileLoader):
    """Compiles a module's changed text, and never takes compiled code from a cache."""

    def __init__(self, mutation: Mutation, path: str) -> None:
        super().__init__(mutation.module, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the loader of one module
        text = self._mutation.apply(Path(self.path).read_text(encoding="utf-8"))
        return compile(text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the one module."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutation.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec
        assert spec.origin
        spec.loader = _Loader(self._mutation, spec.origin)
        return spec


def _install(mutation: Mutation) -> None:
    """Change what this process loads from now on."""
    if mutation.file.endswith(".py"):
        if mutation.module in sys.modules:
            raise Rotten(f"{mutation.name}: {mutation.module} has been imported already")
        sys.meta_path.insert(0, _Finder(mutation))
        return
    from penstock import lua  # noqa: PLC0415 - a module of the product that is to be changed must not be loaded by this one

    read = lua._read

    def changed(package: str, folder: str, name: str) -> str:
        text = read(package, folder, name)
        script = f"{package}.{folder}.{name}.lua"
        return mutation.apply(text) if script == mutation.module else text

    lua._read: Any = changed  # type: ignore[misc]


def install() -> None:
    """Apply the mutation that the environment names, if it names one.

    Raises:
        Rotten: it does not fit the product any more.
    """
    name = os.environ.pop(VARIABLE, "")
    if name:
        from tests.system.chaos.mutations import MUTATIONS  # noqa: PLC0415 - which imports this module

        mutation = MUTATIONS[name]
        mutation.apply(mutation.source)
        _install(mutation)
