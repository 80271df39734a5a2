"""Check the job variables of a submission against the template of its pool, before anything is sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from penstock.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client.store import Store
    from penstock.contracts.runs import SubmittedRun

TRUSTED_SECONDS: Final = 5.0
"""How long a template is remembered for submissions without job variables. Their runs are checked by the worker anyway."""
UNDEMANDING: Final = frozenset(
    {"$schema", "title", "description", "type", "properties", "additionalProperties", "$defs", "definitions"}
)
"""Keywords of ``variables`` that demand nothing of a run without job variables: defaults were checked with the template."""


class _Seen(NamedTuple):
    at: float
    template: Any


class JobVariables:
    """Checks submissions.

    Args:
        store: reads the templates.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, _Seen] = {}

    async def check(self, pool: str, runs: Sequence[SubmittedRun]) -> None:
        """Refuse a submission of which one run could not be prepared. A pool that does not exist has nothing to say here.

        Args:
            pool: whose template counts.
            runs: all of the submission; equal job variables are looked at once.

        Raises:
            Invalid: says which run, and names the path, the reason and the rule of each problem.
        """
        template = await self._template(pool, fresh=any(run.spec.job_variables for run in runs))
        if template is None:
            return
        undemanding = UNDEMANDING.issuperset(template.get("variables", {}))
        passed: set[bytes] = set()
        for number, run in enumerate(runs, 1):
            variables = run.spec.job_variables
            if undemanding and not variables:
                continue
            text = _text(variables)
            if text is None or text not in passed:
                _check(template, variables, f"run {number}: " if number > 1 else "")
                passed.add(text or b"")

    async def _template(self, pool: str, *, fresh: bool) -> Any:
        now = time.monotonic()
        seen = self._seen.get(pool)
        if fresh or seen is None or now - seen.at > TRUSTED_SECONDS:
            text = await self._store.read_template(pool)
            if text is None:
                return None
            seen = self._seen[pool] = _Seen(now, orjson.loads(text))
        return seen.template


def _text(variables: dict[str, Any]) -> bytes | None:
    """Spell variables so that equal ones have equal texts; None when no JSON can."""
    try:
        return orjson.dumps(variables, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError, RecursionError):
        return None


def _check(template: Any, variables: dict[str, Any], which: str) -> None:
    from penstock.templates import run_variables  # noqa: PLC0415 - most submissions need no schema library

    try:
        run_variables(template, None, variables)
    except Invalid as problem:
        raise Invalid(f"{which}{problem.message}", problem.hint) from problem
