"""An entrypoint looked at: by a process of its own, so that nothing the user's code does reaches this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import orjson

from penstock.errors import Invalid
from penstock.projects import sources
from penstock.projects.drafts import absolute
from penstock.projects.fitting import usable

TIME_LIMIT_SECONDS: Final = 60.0
"""How long an import may take; large libraries take 20 s on a cold disk."""
_SCRIPT: Final = Path(__file__).with_name("signature_process.py")
_KEPT: Final = 8192
_MAX_SHOWN: Final = 500


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """What is known of an entrypoint.

    Attributes:
        flow: name of the flow.
        schema: JSON Schema of the parameters; None when the file could not be imported.
        outline: the schema, or when there is none the names of the parameters; None when not even these are known.
        description: first paragraph of the docstring.
        warnings: what its author should know.
    """

    flow: str
    schema: dict[str, Any] | None = None
    outline: dict[str, Any] | None = None
    description: str | None = None
    warnings: list[str] = field(default_factory=list)


def inspect_entrypoint(entrypoint: str, project: Path, *, time_limit: float = TIME_LIMIT_SECONDS) -> Entrypoint:
    """Look at a function.

    Args:
        entrypoint: ``path/to/file.py:function``.
        project: what the path is relative to, and where the code is imported.
        time_limit: seconds the import may take.

    Returns:
        What was found. Code that cannot be imported here may still run on a worker: then only the warning and what the
        text of the file says.

    Raises:
        NotFound: no such file, or no such function in it.
        Invalid: not of the form, no Python, no function, or one that cannot be called by the names of its parameters.
    """
    shown, function = sources.split_entrypoint(entrypoint)
    path = absolute(project / shown)
    source = sources.read_source(path, shown)
    answer = _ask(path, function, project, time_limit)
    if problem := answer.get("problem"):
        sources.ensure_function(source, function, shown)
        return Entrypoint(
            flow=sources.flow_name(source, function),
            outline=sources.outline(source, function),
            description=sources.description(source, function),
            warnings=[f"{shown} cannot be imported here: {problem}; deployed without a schema of its parameters"],
        )
    if answer.get("missing"):
        raise sources.no_function(function, shown, answer["known"])
    if refused := answer.get("refused"):
        raise Invalid(f"{entrypoint}: {refused}")
    schema, loosened = usable(answer["schema"]) if answer["schema"] is not None else (None, [])
    notes = [*answer["notes"], *(f"parameter '{name}' is not checked: {why}" for name, why in loosened)]
    return Entrypoint(
        flow=answer["flow"],
        schema=schema,
        outline=schema,
        description=sources.first_paragraph(answer["doc"]),
        warnings=[f"{entrypoint}: {note}" for note in notes],
    )


def _ask(path: Path, function: str, project: Path, time_limit: float) -> dict[str, Any]:
    """Have a process look, and end everything it has started."""
    with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
        answer = Path(directory) / "answer.json"
        # Without the script's own directory on the path: its neighbours' names belong to the user's modules.
        process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), str(path), function, str(answer)],
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        tail = _Tail(process.stderr)
        try:
            code = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            return {"problem": f"the import took longer than {time_limit:g} s"}
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            last = tail.last_line()
        try:
            found: dict[str, Any] = orjson.loads(answer.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            why = f": {last}" if last else ""
            return {
                "problem": f"what it says cannot be read{why}"
                if code == 0
                else f"its process ended with code {code}{why}"
            }
        return found


class _Tail:
    """The end of what a process prints, however much that is."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), 65_536):
                self._kept = (self._kept + chunk)[-_KEPT:]

    def last_line(self) -> str:
        """The last line there is; called when the process has ended."""
        self._thread.join(1.0)
        lines = self._kept.decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:_MAX_SHOWN] if lines else ""
