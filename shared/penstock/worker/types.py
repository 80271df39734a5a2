"""Find the kind of infrastructure a worker starts runs on, and install its package where the policy says so.

Packages offer theirs as entry points of the group ``penstock.worker_types`` (``docker =
"penstock_docker:DockerType"``, called without arguments, answers a :class:`penstock.worker.job.WorkerType`); the
package of a type is called ``penstock-<type>``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from penstock.errors import Invalid, NotFound
from penstock.worker.process import ProcessType

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.worker.job import WorkerType

GROUP: Final = "penstock.worker_types"
InstallPolicy = Literal["always", "if-not-present", "never", "prompt"]
INSTALL_POLICIES: Final[tuple[str, ...]] = get_args(InstallPolicy)
_BUILT_IN: Final[dict[str, Callable[[], WorkerType]]] = {"process": ProcessType}
_SAFE_TYPE: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def known_types() -> list[str]:
    """Name the types that can be used without installing anything."""
    return sorted({*_BUILT_IN, *(entry.name for entry in importlib.metadata.entry_points(group=GROUP))})


def package_of(worker_type: str) -> str:
    """Name the package of a type.

    Raises:
        Invalid: such a type cannot exist; nothing with that name may reach an installer.
    """
    if not _SAFE_TYPE.fullmatch(worker_type):
        raise Invalid(
            f"{worker_type!r} is no worker type: lower-case letters, digits and dashes only",
            f"known types: {', '.join(known_types())}",
        )
    return f"penstock-{worker_type}"


def install(package: str) -> None:
    """Install a package, or update it, with this interpreter's pip.

    Raises:
        NotFound: pip could not; carries its last words.
    """
    command = [sys.executable, "-m", "pip", "install", "--upgrade", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "pip said nothing").splitlines()[-1]
        raise NotFound(f"package {package!r} could not be installed: {last}", f"try `{' '.join(command)}`")
    importlib.invalidate_caches()


def ask(question: str) -> bool:
    """Ask the person at the terminal; without a terminal the answer is no."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def load_type(
    worker_type: str,
    policy: InstallPolicy = "prompt",
    *,
    installer: Callable[[str], None] = install,
    confirm: Callable[[str], bool] = ask,
) -> WorkerType:
    """Make the infrastructure of a type.

    Args:
        worker_type: e.g. ``process``, which comes with Penstock and is never installed.
        policy: ``always`` installs or updates its package, ``if-not-present`` installs it when it is missing,
            ``never`` does not, ``prompt`` asks, and does not where nobody can answer.
        installer: gets the name of the package.
        confirm: gets the question.

    Returns:
        A new instance, not opened yet.

    Raises:
        Invalid: no type can have this name, or no policy that one.
        NotFound: the type is unknown; the message names the package that would have it.
    """
    if policy not in INSTALL_POLICIES:
        raise Invalid(f"unknown install policy {policy!r}", f"one of {', '.join(INSTALL_POLICIES)}")
    if worker_type in _BUILT_IN:
        return _BUILT_IN[worker_type]()
    package = package_of(worker_type)
    found = _find(worker_type)
    question = f"Worker type {worker_type!r} needs the package {package!r}. Install it?"
    wanted = policy == "always" or (
        found is None and (policy == "if-not-present" or (policy == "prompt" and confirm(question)))
    )
    if wanted:
        installer(package)
        found = _find(worker_type)
    if found is None:
        raise NotFound(
            f"unknown worker type {worker_type!r}: the package {package!r} is not installed or does not offer it",
            f"known types: {', '.join(known_types())}; `pip install {package}`, or --install-policy if-not-present",
        )
    made: WorkerType = found.load()()
    return made


def _find(worker_type: str) -> Any:
    return next(iter(importlib.metadata.entry_points(group=GROUP, name=worker_type)), None)
