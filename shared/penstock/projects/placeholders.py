"""``{{ $NAME }}`` in a project file is the environment variable of that name; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from penstock.client.wording import did_you_mean
from penstock.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.projects.documents import Document, Place

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_VARIABLE: Final = re.compile(r"\$([A-Za-z_]\w*)", re.ASCII)
_PREFECT: Final = "prefect."


def filled(document: Document, value: Any, place: Place, environment: Mapping[str, str], warnings: list[str]) -> Any:
    """Put environment variables in.

    Args:
        document: where the value stands, for messages.
        value: plain data; never changed.
        place: of the value.
        environment: names and values.
        warnings: gets a line for each placeholder that is left as it is.

    Raises:
        Invalid: a variable is not set, or a placeholder needs a Prefect server.
    """
    if isinstance(value, dict):
        return {name: filled(document, item, (*place, name), environment, warnings) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(document, item, (*place, index), environment, warnings) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        inside = found.group(1)
        where = document.at(place)
        if variable := _VARIABLE.fullmatch(inside):
            name = variable.group(1)
            if name in environment:
                return environment[name]
            hint = did_you_mean(name, environment) or f"set it: export {name}=..."
            raise Invalid(f"{where}: the environment variable {name} is not set", hint)
        if inside.startswith(_PREFECT):
            raise Invalid(
                f"{where}: '{{{{ {inside} }}}}' is unsupported: blocks and variables of a Prefect server are not read",
                "write the value itself, or {{ $NAME }} for an environment variable",
            )
        warnings.append(f"{where}: '{{{{ {inside} }}}}' is left as it is; only {{{{ $NAME }}}} is filled in")
        return found.group(0)

    return _PLACEHOLDER.sub(fill, value)
