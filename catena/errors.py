"""What can go wrong through no fault of the code: one clear sentence each."""

from __future__ import annotations


class CatenaError(Exception):
    """A problem the user can solve.

    The message is one sentence that says what is wrong, where, and what to do about it.
    Command lines print it and exit with status 2; a traceback means a bug.
    """

    exit_code = 2


class SettingsError(CatenaError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(CatenaError):
    """Data cannot be used: missing, unreadable, too small, too dirty or changed."""


class ChecksumError(CatenaError):
    """What was fetched or stored is not what its checksum promises."""


class ModelError(CatenaError):
    """A model folder is missing, incomplete or of another kind."""


class RegistryError(CatenaError):
    """The registry has no such model, version or alias, or cannot be reached."""


class BusyError(CatenaError):
    """Another run is working in the same folder."""


class StorageError(CatenaError):
    """The disk is full or cannot be written."""
