"""What goes wrong between this server and another one that is asked for an answer?

Does not know: when.
"""

from __future__ import annotations

from anzoth.errors import ModelUnavailable


class NoAnswer(Exception):
    """The connection was not made, or broke. The message is a kind, for the log."""


class NoConnectionFree(Exception):
    """As many requests run there as may run."""


class BackendFailed(ModelUnavailable):
    """The server that this model is asked at did not answer as it should. Retry in a few
    seconds."""


class BackendMisconfigured(ModelUnavailable):
    """The server that this model is asked at refuses this gateway: its operator must mend that."""

    rule = "backend.misconfigured"


class TargetPaused(ModelUnavailable):
    """The server that this model is asked at has been failing and is left alone for a moment."""
