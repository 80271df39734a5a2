"""What a placeholder is: ``{{ name }}``, a whole variable's name and nothing else; no parts, no filters, no expressions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.templates.problems import Place

MAX_PLACEHOLDERS: Final = 1000
"""In one template."""

_NAME: Final = r"[\w.$\[\]-]++"
PLACEHOLDER: Final = re.compile(r"\{\{\s*+(" + _NAME + r")\s*+\}\}")
"""Possessive throughout: reading a text takes time proportional to its length."""


def names_in(text: str) -> list[str]:
    """List the names of a text's placeholders, in order, repeated ones too."""
    return PLACEHOLDER.findall(text)


def sole_name(text: str) -> str | None:
    """Name the placeholder that is the whole text; None when there is none or anything beside it."""
    found = PLACEHOLDER.fullmatch(text)
    return found.group(1) if found else None


def has_stray_braces(text: str) -> bool:
    """Say whether a text opens a placeholder that is none: unclosed, empty, or holding more than a name."""
    return "{{" in text and any("{{" in between for between in PLACEHOLDER.split(text)[::2])


def texts_in(value: Any, place: Place) -> Iterator[tuple[Place, str, bool]]:
    """Walk the texts of a value in the order of the document.

    Yields:
        The place, the text, and whether it is a key.
    """
    if isinstance(value, str):
        yield place, value, False
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts_in(item, (*place, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield (*place, key), key, True
            yield from texts_in(item, (*place, key))
