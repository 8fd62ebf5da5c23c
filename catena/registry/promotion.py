"""Who is champion: compare-and-set under a lock, history, promotion and rollback by hand."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catena.errors import BusyError, RegistryError
from catena.files import exclusive
from catena.layout import Layout
from catena.registry.provenance import user
from catena.registry.store import lock_wait, registry_errors, sqlite_file
from catena.registry.versions import CHALLENGER, CHAMPION, Registry

HISTORY = "catena.history"
CLAIM = "catena.claim"
_MOST_EVENTS = 200
#: Characters of a reason; all events have to fit into one tag of the registry.
_LONGEST_REASON = 300
#: Seconds a claim must stand on a server before it counts; longer than one request takes.
SETTLE_SECONDS = 1.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Move:
    """The champion alias went from `previous` (or nothing) to `version`."""

    name: str
    version: str
    previous: str | None


class LostRaceError(RegistryError):
    """Somebody else moved the champion alias first."""


def promote(layout: Layout, name: str, version: str | int, reason: str = "") -> Move:
    """Make `version` of `name` champion, by a person's decision and past the gate.

    Raises `RegistryError` when the version does not exist, is champion already, or when another
    promotion gets in first.
    """
    registry = Registry.open(layout, name)
    wanted = registry.version(str(version))
    current = registry.aliased(CHAMPION)
    if current == str(wanted.version):
        raise RegistryError(f"Version {current} is the champion of {name} already.")
    return move_champion(
        layout, registry, str(wanted.version), current, event="promoted", by=user(), reason=reason
    )


def rollback(layout: Layout, name: str, reason: str = "") -> Move:
    """Make the champion before the present one champion again.

    Several rollbacks go back step by step; versions deleted meanwhile are passed over. The
    version rolled back from is marked, and the gate does not promote it again by itself. Raises
    `RegistryError` when there is no earlier champion.
    """
    registry = Registry.open(layout, name)
    registry.model()
    current = registry.aliased(CHAMPION)
    known = {str(version.version) for version in registry.versions()}
    earlier = [v for v in champions(history(registry)) if v in known and v != current]
    if not earlier:
        raise RegistryError(
            f"There is nothing to roll {name} back to: "
            + (f"version {current} is its first champion." if current else "it has never had a champion.")
            + f" Choose a version with `catena promote {name} VERSION`."
        )
    return move_champion(
        layout, registry, earlier[-1], current, event="rolled back", by=user(), reason=reason,
        from_bad=current if current in known else None,
    )  # fmt: skip


def move_champion(
    layout: Layout,
    registry: Registry,
    version: str,
    expected: str | None,
    *,
    event: str,
    by: str,
    reason: str = "",
    from_bad: str | None = None,
) -> Move:
    """Set the champion alias to `version` if it still stands at `expected`.

    Of two processes that expect the same champion one wins; the other gets `LostRaceError`. The
    move is recorded in the registered model's history. `from_bad` is a version that is rolled back from, and
    marked before anything moves, so that the gate does not promote it again whatever happens.
    """
    client, name = registry.client, registry.name
    if len(reason) > _LONGEST_REASON:
        raise RegistryError(
            f"A reason has up to {_LONGEST_REASON:,} characters, and this one {len(reason):,}."
        )
    with _turn(layout, registry):
        _check(registry, expected)
        with registry_errors(registry.uri):
            if from_bad is not None:
                client.set_model_version_tag(name, from_bad, "catena.rolled_back", "true")
            client.set_registered_model_alias(name, CHAMPION, version)
            if registry.aliased(CHALLENGER) == version:
                client.delete_registered_model_alias(name, CHALLENGER)
            entry = {
                "event": event, "version": version, "previous": expected, "by": by, "reason": reason,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }  # fmt: skip
            events = [*history(registry), entry][-_MOST_EVENTS:]
            client.set_registered_model_tag(name, HISTORY, json.dumps(events))
            client.set_model_version_tag(name, version, "catena.previous_champion", expected or "none")
            client.delete_model_version_tag(name, version, "catena.rolled_back")
        if registry.aliased(CHAMPION) != version:
            raise LostRaceError(_lost(registry, registry.aliased(CHAMPION)))
    return Move(name, version, expected)


def history(registry: Registry) -> list[dict[str, Any]]:
    """What happened to the champion alias, the oldest first.

    Raises `RegistryError` when the record is damaged.
    """
    model = registry.find_model()
    text = (model.tags or {}).get(HISTORY, "[]") if model is not None else "[]"
    try:
        events = json.loads(text)
        if all(isinstance(event["version"], str) for event in events):
            return list(events)
    except (ValueError, TypeError, KeyError):
        pass
    raise RegistryError(
        f"The tag `{HISTORY}` of {registry.name} is damaged; correct or remove it in MLflow "
        "(then rollback forgets what was before)."
    )


def champions(events: list[dict[str, Any]]) -> list[str]:
    """The champions that a rollback can return to, the present one last."""
    stack: list[str] = []
    for event in events:
        if event.get("event") == "rolled back":
            while stack and stack[-1] != event["version"]:
                stack.pop()
        if not stack or stack[-1] != event["version"]:
            stack.append(event["version"])
    return stack


def lost_champion(registry: Registry) -> str | None:
    """The version that was champion last, when the alias has vanished with it; `None` when all is well."""
    if registry.aliased(CHAMPION) is not None:
        return None
    stack = champions(history(registry))
    return stack[-1] if stack else None


@contextmanager
def _turn(layout: Layout, registry: Registry) -> Iterator[None]:
    """Be the only one who moves the champion of this registry.

    With a SQLite store a lock beside the database file serves everybody who uses it. A server
    has no such lock: there a claim is written, and counts if it still stands after a while
    (Fischer's algorithm for mutual exclusion with bounded delays).
    """
    database = sqlite_file(registry.uri)
    if database is not None:
        with _waiting(database.with_name(f"{database.name}.promotion.lock"), registry.name):
            yield
        return
    with _waiting(layout.lock("promotion"), registry.name), claimed(registry):
        yield


@contextmanager
def claimed(
    registry: Registry, settle: Callable[[], None] = lambda: time.sleep(SETTLE_SECONDS)
) -> Iterator[None]:
    """Hold the claim on moving the champion. Raises `LostRaceError` when a later one replaces it.

    `settle` waits until every claim written before this one was read must have been acted on.
    """
    own = uuid.uuid4().hex
    with registry_errors(registry.uri):
        _write_claim(registry, own)
    settle()
    model = registry.model()
    if model.tags.get(CLAIM) != own:
        raise LostRaceError(_lost(registry, registry.aliased(CHAMPION)))
    yield


def _write_claim(registry: Registry, own: str) -> None:
    """Set the claim; the very first one may be refused because another's was inserted at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        registry.client.set_registered_model_tag(registry.name, CLAIM, own)
    except MlflowException as error:
        if "unique" not in str(error).lower():
            raise
        registry.client.set_registered_model_tag(registry.name, CLAIM, own)


@contextmanager
def _waiting(lock: Path, name: str) -> Iterator[None]:
    """Hold a lock, waiting as long as for a locked database."""
    until = time.monotonic() + lock_wait()
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive(lock, f"Another promotion of {name}"))
                break
            except BusyError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_POLL_SECONDS)
        yield


def _check(registry: Registry, expected: str | None) -> None:
    current = registry.aliased(CHAMPION)
    if current != expected:
        raise LostRaceError(_lost(registry, current))


def _lost(registry: Registry, current: str | None) -> str:
    now = f"version {current} became champion" if current else "the champion was removed"
    return (
        f"Another promotion of {registry.name} came first: {now} in the meantime; look at it and try again."
    )
