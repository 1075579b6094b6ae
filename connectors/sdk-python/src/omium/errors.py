"""What can go wrong between a program and the gate."""

from __future__ import annotations


class OmiumError(RuntimeError):
    """Something that Omium says, and not the program or its tools."""


class GateUnreachable(OmiumError):
    """The gate does not answer, and was asked for as long as is sensible. No call is made past it."""


class Refused(OmiumError):
    """The gate refuses: the attempt is stale, the execution suspended, or the outcome of an earlier write unknown."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "") -> None:
        super().__init__(f"{detail} ({code}); {hint}" if hint else f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint


class Fenced(OmiumError):
    """This attempt is over: an error of Omium's must not reach a model as if a tool or an agent had said it."""


class ToolFailed(OmiumError):
    """A tool failed in an earlier attempt with an exception that cannot be made again here."""


class Unrecordable(OmiumError):
    """A tool that changes the world ran in an earlier attempt, and its result cannot be had. It is not repeated."""
