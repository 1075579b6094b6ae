"""How long a gate that is away for a moment is waited for."""

from __future__ import annotations

import os
import random
import time

from omium import settings

# A supervisor has started the server again by then, and nobody holds a program for longer without a word.
TOTAL_S = 60.0
_FIRST_S = 0.1
_LONGEST_S = 5.0
# How many seconds it is for this program, where its user says so.
VARIABLE = "OMIUM_PATIENCE"


def _total() -> float:
    said = os.environ.get(VARIABLE)
    try:
        return max(0.0, float(said)) if said else TOTAL_S
    except ValueError:
        settings.tell(f"{VARIABLE}={said} is no number of seconds; it is {TOTAL_S:g}")
        return TOTAL_S


class Patience:
    """The pauses between tries: twice as long each time, and never the same for all who wait."""

    def __init__(self) -> None:
        self._end = time.monotonic() + _total()
        self._next = _FIRST_S

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def pause(self) -> float | None:
        """How long to wait before the next try; None where there is to be none."""
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(2 * self._next, _LONGEST_S)
        return pause if pause < self.left else None
