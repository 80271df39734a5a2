"""Answers to commands: a JSON object in the list ``penstock:{p}:reply:<id>``, popped by the caller."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ReplyError(BaseModel):
    """Why a command was refused; ``code`` is one of :data:`penstock.errors.REFUSALS`."""

    code: str
    message: str
    hint: str = ""


class Reply(BaseModel):
    """The answer to one command."""

    id: str
    ok: bool
    result: Any = None
    error: ReplyError | None = None
