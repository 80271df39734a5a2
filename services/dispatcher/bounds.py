"""How much one script call or one look does, so that neither Redis nor the others wait for it."""

from __future__ import annotations

from typing import Final

CLAIM_AT_ONCE: Final = 100
"""Runs handed out by one script call: enough to make a call cheap per run, short enough not to hold up Redis (about 3 ms)."""
CLAIM_BYTES: Final = 500_000
"""About what one assignment may carry; runs with large parameters are handed out in several."""
CANCEL_AT_ONCE: Final = 200
RECALL_MARGIN_MS: Final = 500
"""A run that is due so soon may have begun before its worker hears that it must not."""
RECALL_AT_MOST: Final = 1000
ASIDE_AT_ONCE: Final = 1000
"""Runs parked, dropped or put back by one script call; each of them costs less than one that is handed out."""
AUDIT_AT_ONCE: Final = 100
"""Workers told what they hold by one script call, if they do not hold ten times as many runs."""
DUE_AT_ONCE: Final = 100
"""Pools looked at in one round of the due clock."""
