"""Which runs somebody wants to see; pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, get_args

from pydantic import BaseModel, ConfigDict

from penstock.client.wording import did_you_mean
from penstock.contracts.runs import RunState
from penstock.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from penstock.contracts.runs import Run

STATES: Final = (*get_args(RunState), "LATE", "AWAITINGRETRY")
"""What runs can be asked for by: states, and names under which people know a SCHEDULED run."""
_NAMED: Final = frozenset({"LATE", "AWAITINGRETRY"})


def check_states(states: Iterable[str]) -> frozenset[str]:
    """Take states in any case, ``AwaitingRetry`` as well as ``AWAITING_RETRY``.

    Raises:
        Invalid: there is no such state.
    """
    found = set()
    for text in states:
        state = text.upper().replace("_", "").replace("-", "").replace(" ", "")
        if state not in STATES:
            raise Invalid(
                f"'{text}' is no state of a run", did_you_mean(state, STATES) or f"one of {', '.join(STATES)}"
            )
        found.add(state)
    return frozenset(found)


class RunFilter(BaseModel):
    """Conditions that a run has to meet; None and empty mean any.

    Attributes:
        pool, queue: names.
        deployment: an id.
        states: of :data:`STATES`; SCHEDULED includes what is late or waits for its next attempt.
        name: a glob.
    """

    model_config = ConfigDict(frozen=True)

    pool: str | None = None
    queue: str | None = None
    deployment: str | None = None
    states: frozenset[str] = frozenset()
    name: str | None = None

    @property
    def only_late(self) -> bool:
        """Of what waits, only late runs are wanted."""
        return "LATE" in self.states and not self.states & {"SCHEDULED", "AWAITINGRETRY"}

    def may_match(self, states: Collection[str]) -> bool:
        """Say whether a run in one of some states may be wanted."""
        return not self.states or any(one in self.states for one in states) or self._by_name("SCHEDULED" in states)

    def is_all_of(self, states: Collection[str]) -> bool:
        """Say whether every run of the pool, queue and deployment in one of some states is wanted."""
        return self.name is None and (not self.states or all(one in self.states for one in states))

    def matches(self, run: Run) -> bool:
        """Say whether a run is wanted."""
        return (
            (not self.states or run.state in self.states or run.state_name.upper() in self.states & _NAMED)
            and self.pool in (None, run.pool)
            and self.queue in (None, run.queue)
            and self.deployment in (None, run.deployment_id)
            and (self.name is None or fnmatchcase(run.name, self.name))
        )

    def _by_name(self, scheduled: bool) -> bool:
        return scheduled and bool(self.states & _NAMED)
