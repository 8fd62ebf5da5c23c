"""The MLflow store: where it is, opening it quickly and quietly, and its errors in one sentence."""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from catena.errors import RegistryError, StorageError
from catena.layout import Layout

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Seconds to wait for a registry database that another process has locked.
WAIT_VARIABLE = "CATENA_REGISTRY_WAIT"
_DEFAULT_WAIT = 20.0

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    # Its own defaults keep retrying an unreachable server for several minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "GIT_PYTHON_REFRESH": "quiet",
}


def tracking_uri(layout: Layout) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file `mlflow.db` in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{layout.root.absolute() / 'mlflow.db'}"


def artifact_location(layout: Layout, uri: str) -> str | None:
    """Where a new experiment keeps its files; a server decides that for itself (`None`)."""
    if uri.startswith(("http://", "https://", "databricks")):
        return None
    return (layout.root / "mlartifacts").resolve().as_uri()


def configure_mlflow() -> None:
    """Set MLflow's environment before its first import: no telemetry, no chatter, bounded retries.

    What the user has set stays.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # MLflow logs a traceback for every database error before it raises; ours is one sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def connect(layout: Layout, *, write: bool = True) -> MlflowClient:
    """A client of the project's MLflow store.

    With `write` a missing SQLite store is created. Raises `RegistryError` when the database
    stays locked for `CATENA_REGISTRY_WAIT` seconds, is missing or is no database, and when a
    server does not answer.
    """
    configure_mlflow()
    uri = tracking_uri(layout)
    database = sqlite_file(uri)
    if database is not None:
        _probe(database, write)
    with registry_errors(uri):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        if database is None:
            client.search_experiments(max_results=1)
    return client


@contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's default store for the block.

    Its SQL registry looks models up in the default store, whatever store the client was given.
    """
    import mlflow

    untyped: Any = mlflow
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    before = mlflow.get_tracking_uri() if untyped.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        untyped.set_tracking_uri(before)
        if variable is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = variable


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, or `None` for any other store."""
    prefix = "sqlite:///"
    return Path(unquote(uri.removeprefix(prefix))) if uri.startswith(prefix) else None


def _probe(database: Path, write: bool) -> None:
    """Find out in bounded time what MLflow would find out after minutes of retries."""
    if not database.is_file():
        if write:
            return
        raise RegistryError(
            f"There is no model registry at {database} yet; run the pipeline first, "
            "or set MLFLOW_TRACKING_URI to the registry you mean."
        )
    wait = lock_wait()
    try:
        with closing(sqlite3.connect(database, timeout=wait, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE" if write else "SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        raise _sqlite_error(str(error), database, wait) from error


def lock_wait() -> float:
    """Seconds to wait for a locked database, from the environment."""
    text = os.environ.get(WAIT_VARIABLE, "")
    try:
        return max(0.0, float(text)) if text else _DEFAULT_WAIT
    except ValueError:
        raise RegistryError(f"{WAIT_VARIABLE} must be a number of seconds, not {text!r}.") from None


def _sqlite_error(message: str, database: Path | str, wait: float) -> RegistryError | StorageError:
    if "locked" in message:
        return RegistryError(
            f"The registry database {database} is locked by another process (waited {wait:g} s); "
            "close what is writing to it (another run, a database browser) and run again, "
            "or use an MLflow server for several writers."
        )
    if "full" in message:
        return StorageError(
            f"The disk is full while writing the registry database {database}; free some space and run again."
        )
    if "readonly" in message or "unable to open" in message:
        return StorageError(f"The registry database {database} cannot be written: {message}.")
    return RegistryError(
        f"{database} is not a usable registry database ({message}); "
        "restore it from a copy, or move it away to start a new one."
    )


@contextmanager
def registry_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's and the database's errors in the block into one `RegistryError` or `StorageError`."""
    from mlflow.exceptions import MlflowException

    started = time.monotonic()
    try:
        yield
    except MlflowException as error:
        raise _explained(error, str(error.message), uri, time.monotonic() - started) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"The disk is full while writing to the registry ({error.filename or uri}); "
                "free some space and run again."
            ) from error
        if isinstance(error, ConnectionError):
            raise _unreachable(uri) from error
        raise


def _explained(error: Exception, message: str, uri: str, waited: float) -> RegistryError | StorageError:
    database = sqlite_file(uri)
    low = message.lower()
    if database is not None and ("sqlite3.operationalerror" in low or "sqlite3.databaseerror" in low):
        first = message.splitlines()[0].partition(") ")[2] or message
        return _sqlite_error(first, database, round(waited, 1))
    if "api request to" in low or "connection refused" in low or "max retries" in low:
        return _unreachable(uri)
    if "out-of-date database schema" in low:
        return RegistryError(
            f"The registry at {shown_uri(uri)} was made by another version of MLflow; "
            f"save a copy, then run `mlflow db upgrade {shown_uri(uri)}`."
        )
    return RegistryError(f"The registry at {shown_uri(uri)} refused: {message.splitlines()[0].rstrip('.')}.")


def shown_uri(uri: str) -> str:
    """An address without the name and password that it may hold."""
    return re.sub(r"(?<=://)[^/]*@", "", uri)


def _unreachable(uri: str) -> RegistryError:
    return RegistryError(
        f"The MLflow server at {shown_uri(uri)} does not answer; start it or correct MLFLOW_TRACKING_URI "
        "(unset, the registry is a file in the project)."
    )
