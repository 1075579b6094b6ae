"""Omium's Python side: tells the gate which agent calls, and lets the results of tools be kept and served again.

`instrument()` is all that a program needs, and under `omium exec` not even that. `tool` declares what a tool does to
the world, and `agent` names a part of a program that no framework names.
"""

from omium.activations import agent
from omium.errors import Fenced, GateUnreachable, OmiumError, Refused, ToolFailed, Unrecordable
from omium.instrumentation import instrument
from omium.tools import tool

__version__ = "0.1.0"

__all__ = [
    "Fenced",
    "GateUnreachable",
    "OmiumError",
    "Refused",
    "ToolFailed",
    "Unrecordable",
    "__version__",
    "agent",
    "instrument",
    "tool",
]
