"""Imports point one way, and what must start quickly does not load what is slow to load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_project import REPOSITORY


def loaded_after(module: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after importing `module`."""
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("stage", ["prepare", "register"])
def test_the_stages_without_a_network_never_import_torch(stage: str) -> None:
    assert not loaded_after(f"tasks.{stage}") & {"torch", "transformers"}


def test_the_command_line_starts_without_the_slow_libraries() -> None:
    slow = {"torch", "transformers", "mlflow", "pandas", "pydantic", "sklearn"}
    assert not loaded_after("catena.cli") & slow


def test_the_settings_need_no_pandas() -> None:
    assert not loaded_after("catena.settings") & {"pandas", "numpy", "torch"}


def test_the_import_rules_of_pyproject_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_module_says_its_subject_in_its_first_line() -> None:
    for folder in ("catena", "tasks", "flows", "tests", "benchmarks"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8").removeprefix("#!/usr/bin/env python\n")
            assert not text or text.startswith('"""'), f"{path} does not start with a docstring"
