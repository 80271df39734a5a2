"""Events per resource: numbered without gaps, every id once, a status told only when it changed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES = {"ready", "not-ready", "paused", "online", "offline"}


class Numbering:
    """Takes events in the order of the stream."""

    def __init__(self) -> None:
        self._seqs: dict[str, int] = defaultdict(int)
        self._ids: set[str] = set()
        self._status: dict[str, str] = {}

    def take(self, event: dict[str, Any]) -> Iterator[str]:
        """Take one event; yield what is wrong with it."""
        resource = event["resource"]["prefect.resource.id"]
        counted = resource
        if resource.startswith("prefect.worker."):
            # A worker counts per pool and name, of which its resource id does not tell.
            counted = f"{resource} {event['resource']['prefect.resource.name']} {event['related']}"
        if event["seq"] != self._seqs[counted] + 1:
            yield f"{resource}: seq {event['seq']} after {self._seqs[counted]}"
        self._seqs[counted] = event["seq"]
        if event["id"] in self._ids:
            yield f"{resource}: event id {event['id']} twice"
        self._ids.add(event["id"])
        status = event["event"].rpartition(".")[2]
        if status in STATUSES:
            if self._status.get(counted) == status:
                yield f"{resource}: {status} told twice"
            self._status[counted] = status

    def last(self, resource: str) -> int:
        """The number of a resource's last event, 0 without any."""
        return self._seqs.get(resource, 0)
