"""Every error that cineray raises on purpose. One small tree; each message says what, got, wanted, next step.

A bad *video* is not an error: it is a `records.Reject`, a row with a reason. These are for the rest:
a lake that is not there, a version that was never made, a place that may not be read.
"""


class CinerayError(Exception):
    """Base of all errors raised on purpose; the command line prints it without a traceback and exits 1."""

    exit_code = 1


class UsageError(CinerayError):
    """The caller asked for something that cannot be: a wrong option, field or combination. Exits 2."""

    exit_code = 2


class UnknownField(UsageError):
    """A field was named that the config has not."""


class FieldsClash(UsageError):
    """Fields are each possible, and not together."""


class SourceError(CinerayError):
    """A source cannot be listed at all: no such folder, a manifest without a `uri` column, a compressed shard."""


class PlaceError(CinerayError):
    """Bytes at a place cannot be had; `reason` is a short code that a `Reject` can carry."""

    def __init__(self, message: str, *, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class PlaceMissing(PlaceError):
    """Nothing lies at this place."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="missing")


class PlaceRefused(PlaceError):
    """The access policy forbids this place: loopback, link-local, a metadata address, an unknown scheme."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="refused")


class PlaceChanged(PlaceError):
    """The bytes at a place are no longer those that were indexed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="changed")


class MediaUnavailable(PlaceError):
    """Clips that a batch needs cannot be had now, for a reason that may pass; no other clip may stand in for that."""


class LakeError(CinerayError):
    """A lake or one of its versions is missing, broken, or of a format that this code does not read."""


class CommitConflict(LakeError):
    """Another writer committed first, again and again; nothing was written, and trying again is safe."""


class SplitLeakage(LakeError):
    """One group of videos would lie in more than one split; nothing was written."""


class TooManyRejects(CinerayError):
    """More of the videos were rejected than the stated limit allows. Exits 3; what was good is committed."""

    exit_code = 3


class Interrupted(CinerayError):
    """The user stopped it (Ctrl-C, SIGTERM); the message says what is kept and how to go on. Exits 130."""

    exit_code = 130


class TooManySubstitutions(CinerayError):
    """More of a run's clips could not be decoded than its recipe allows; the message lists them. Exits 3."""

    exit_code = 3


class FeedOrderError(CinerayError):
    """A batch came to the wrong rank or at the wrong step; the run stops rather than train on it."""


class FeedStalled(CinerayError):
    """No batch came for longer than the feed was told to wait; the message says what it waited for."""
