"""Fill a template's placeholders.

A value that is one placeholder and nothing else becomes the variable's value, of its own type; where the variable has no value,
the key or list item is left out. Placeholders within a text become text: a text as it is, null nothing, anything else as JSON; a
missing one nothing. What was filled in is not read again.
"""

from __future__ import annotations

import json
from typing import Any, Final

from penstock.templates.check import JOB_CONFIGURATION, ensure, properties_of
from penstock.templates.json_values import faults, json_text, kind_of
from penstock.templates.placeholders import PLACEHOLDER, sole_name
from penstock.templates.problems import Place, problem, refuse
from penstock.templates.variables import ENV, SUBJECT, run_variables

MAX_RENDERED: Final = 1_048_576
"""Characters of JSON that placeholders may insert altogether."""

_LEFT_OUT: Final = object()


def render(template: Any, values: Any) -> dict[str, Any]:
    """Fill the placeholders of the job configuration.

    Where the configuration has an ``env`` object of its own and ``env`` is also a declared variable, the variable's entries are
    laid over it.

    Args:
        template: a base job template.
        values: variable -> value, as :func:`penstock.templates.variables.run_variables` answers them; not checked against the
            template's schema here.

    Returns:
        The job configuration, which shares nothing with the arguments; ``{}`` for the empty template.

    Raises:
        Invalid: the template has problems, the values are no JSON object, or the result would be larger than 1 MiB.
    """
    ensure(template)
    if not isinstance(values, dict):
        refuse(SUBJECT, [problem((), "type", f"an object of variables is needed; this is {kind_of(values)}")])
    refuse(SUBJECT, faults(values))
    configuration = template.get(JOB_CONFIGURATION, {})
    filling = _Filling(values)
    result: dict[str, Any] = filling.filled(configuration, (JOB_CONFIGURATION,))
    if (
        ENV in properties_of(template)
        and isinstance(configuration.get(ENV), dict)
        and isinstance(values.get(ENV), dict)
    ):
        result[ENV] |= filling.value_of(ENV, (JOB_CONFIGURATION, ENV))
    return result


def job_configuration(template: Any, deployment: Any = None, run: Any = None) -> dict[str, Any]:
    """Merge and check the values of a run, and render its job configuration.

    Raises:
        Invalid: see :func:`penstock.templates.variables.run_variables` and :func:`render`.
    """
    return render(template, run_variables(template, deployment, run))


class _Filling:
    """One rendering: the values, their texts, and how much may still be inserted."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._texts: dict[str, str] = {}
        self._room = MAX_RENDERED

    def filled(self, node: Any, place: Place) -> Any:
        if isinstance(node, str):
            return self._filled_text(node, place)
        if isinstance(node, list):
            items = (self.filled(item, (*place, index)) for index, item in enumerate(node))
            return [item for item in items if item is not _LEFT_OUT]
        if isinstance(node, dict):
            entries = ((key, self.filled(item, (*place, key))) for key, item in node.items())
            return {key: item for key, item in entries if item is not _LEFT_OUT}
        return node

    def value_of(self, name: str, place: Place) -> Any:
        return json.loads(self._counted(self._json(name), place))

    def _filled_text(self, text: str, place: Place) -> Any:
        name = sole_name(text)
        if name is not None:
            return self.value_of(name, place) if name in self._values else _LEFT_OUT
        return PLACEHOLDER.sub(lambda found: self._counted(self._text(found.group(1)), place), text)

    def _text(self, name: str) -> str:
        value = self._values.get(name)
        if value is None:
            return ""
        return value if isinstance(value, str) else self._json(name)

    def _json(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = json_text(self._values[name])
        return self._texts[name]

    def _counted(self, text: str, place: Place) -> str:
        self._room -= len(text)
        if self._room < 0:
            refuse(
                SUBJECT, [problem(place, "size", f"filling in the values makes more than {MAX_RENDERED} characters")]
            )
        return text
