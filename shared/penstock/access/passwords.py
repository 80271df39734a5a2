"""Passwords of Redis users, kept one to a file: ``<directory>/<user>/password``, so that each can be handed to its party alone."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Final

from penstock.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "password"
MIN_LENGTH: Final = 16
"""An ACL file holds plain SHA-256, which is tried billions of times a second: only length helps."""
MAX_LENGTH: Final = 512
MIN_DIFFERENT: Final = 6
RANDOM_BYTES: Final = 32


def keep(directory: Path, user: str) -> str:
    """Read the password of a user, or make one where there is none.

    Args:
        directory: of all passwords; made, for its owner alone, when it is missing.
        user: the user's name.

    Returns:
        The password.

    Raises:
        Invalid: the file cannot be read or written, or what it says is no good as a password.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", user):
        raise Invalid(f"the user {user!r} cannot have a directory of that name for its password")
    file = directory / user / FILE_NAME
    try:
        if file.exists():
            return check(file.read_text(encoding="utf-8"), user, str(file))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = secrets.token_urlsafe(RANDOM_BYTES)
        # Exclusive: two that start at the same time must not each hand out a password of their own.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"{password}\n")
    except FileExistsError:
        raise Invalid(f"{file} is being written by somebody else", "try again") from None
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise Invalid(f"{file}: {reason}") from problem
    return password


def check(text: str, user: str, where: str) -> str:
    """Take the password out of the text of its file: without the end of the line, and only if it is good enough.

    Args:
        text: what the file says.
        user: whose it is.
        where: the file, for messages; the password itself is in none.

    Raises:
        Invalid: it is too short, too long, or easily guessed, or has characters that get lost on the way.
    """
    password = text.removesuffix("\n").removesuffix("\r")
    problem = ""
    if not re.fullmatch(r"[!-~]*", password):
        problem = "has characters other than printable ASCII without spaces"
    elif not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        problem = f"has {len(password)} characters; {MIN_LENGTH} to {MAX_LENGTH} are needed"
    elif len(set(password)) < MIN_DIFFERENT:
        problem = f"has fewer than {MIN_DIFFERENT} different characters"
    elif user.lower() in password.lower() or "password" in password.lower():
        problem = "can be guessed: the user's name or the word password is in it"
    if problem:
        raise Invalid(f"the password in {where} {problem}", "remove the file to have one made")
    return password
