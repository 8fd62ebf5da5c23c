"""Real data sets, for tests that need more than can be made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """A file or folder below the one that `CATENA_DATA` names; the test is skipped where there is none."""
    folder = os.environ.get("CATENA_DATA")
    if not folder:
        pytest.skip(f"needs {name}; name the folder of the real data sets in CATENA_DATA")
    path = Path(folder, name)
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path
