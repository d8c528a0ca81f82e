"""What can go wrong, and who must act.

Every exception is a :class:`Error`. Its ``kind`` is a stable word that is never reused, its
``code`` the one condition, its ``hint`` what to do about it (or None); the hint is also a note, so
that a traceback shows it. All of them can be pickled.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Error(Exception):
    """Anything that milepost raises."""

    kind: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str | None = None,
        file: str | None = None,
        subject: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.kind
        self.hint = hint
        self.file = file
        self.subject = subject
        if hint is not None:
            self.add_note(f"hint: {hint}")

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # The bases of some kinds keep the arguments to themselves.
        return (_rebuild, (type(self), dict(self.__dict__)))


def _rebuild(of: type[Error], state: dict[str, Any]) -> Error:
    error = of(state["message"])
    error.__dict__.update(state)
    return error


class NotFoundError(Error, KeyError):
    """There is no such store, run, checkpoint, tensor or tag: the caller named it wrongly."""

    kind = "not-found"


class InvalidInputError(Error, ValueError):
    """The caller passed something that cannot be stored or looked up."""

    kind = "invalid-input"


class LimitError(Error, ValueError):
    """A limit of the format or of the store would be passed."""

    kind = "limit"


class ConflictError(Error):
    """Another writer got there first, or the name is taken."""

    kind = "conflict"


class LockedError(Error, TimeoutError):
    """Another process holds a lock that is needed now."""

    kind = "locked"


class CorruptionError(Error):
    """The store's bytes are not what was written: restore from elsewhere, replace the disk."""

    kind = "corrupt"


class FormatVersionError(Error):
    """Written by a newer milepost, or by one with features that this one lacks: upgrade."""

    kind = "unsupported"


class StoppedError(Error):
    """The work was stopped before it changed anything."""

    kind = "interrupted"


class StorageError(Error, OSError):
    """The operating system refused; ``errno`` is its own number, or None."""

    kind = "io"


class NoSpaceError(StorageError):
    """The disk or the quota is full."""

    kind = "no-space"


class MismatchError(Error, ValueError):
    """What is in a checkpoint does not fit what it is to be loaded into. See ``report``."""

    kind = "mismatch"
    report: Any = None


class UnsupportedTypeError(Error, TypeError):
    """A leaf of a state tree cannot be stored; the message names its path."""

    kind = "unsupported-type"


class ClosedError(Error):
    """The store was closed, or was opened by the process that this one was forked from."""

    kind = "closed"


_OF_ENGINE: dict[str, type[Error]] = {
    of.kind: of
    for of in (
        NotFoundError,
        InvalidInputError,
        LimitError,
        ConflictError,
        LockedError,
        CorruptionError,
        FormatVersionError,
        StoppedError,
        StorageError,
        NoSpaceError,
    )
}


def engine_kinds() -> frozenset[str]:
    """The kinds that come from the engine."""
    return frozenset(_OF_ENGINE)


def from_engine(
    kind: str,
    code: str,
    message: str,
    hint: str | None,
    errno: int | None,
    file: str | None,
    subject: str | None,
) -> Error:
    """The exception of an engine error; the native module calls it."""
    of = _OF_ENGINE.get(kind, Error)
    error = of(message, code=code, hint=hint, file=file, subject=subject)
    if isinstance(error, OSError) and errno is not None:
        error.errno = errno
    return error
