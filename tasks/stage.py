"""What every stage shares: settings read once, one run at a time, a closing table, clear errors."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catena.errors import CatenaError, StorageError
from catena.files import exclusive
from catena.known_names import check_names
from catena.layout import Layout
from catena.settings import Settings, load_settings

Summary = Mapping[str, object]
Stage = Callable[[Settings, Layout], Summary]


def run_stage(name: str, stage: Stage, of_tails: Stage | None = None) -> NoReturn:
    """Run `stage` in the project at hand, print its summary as a table, and exit.

    In a project with several tails that is `of_tails`, where there is one.

    Exit status: 0 when done, 2 after a `CatenaError` (one sentence on standard error),
    130 when interrupted. Anything else is a bug and keeps its traceback.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    started = time.perf_counter()
    try:
        layout = Layout.find()
        settings = load_settings(layout.params)
        with exclusive(layout.lock("stage"), f"A stage (now wanted: {name})"):
            chosen = of_tails if of_tails is not None and settings.problem.tails else stage
            check_names(settings)
            summary = chosen(settings, layout)
    except CatenaError as error:
        sys.exit(_fail(name, error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(_fail(name, StorageError(f"The disk is full ({error.filename or 'no file named'}).")))
    except KeyboardInterrupt:
        sys.exit(130)
    seconds = time.perf_counter() - started
    table = Table(title=f"{name}: done in {seconds:.1f} s", title_justify="left", show_header=False)
    for key, value in summary.items():
        table.add_row(key, escape(str(value)))
    Console(width=int(os.environ.get("COLUMNS", "100"))).print(table)
    # Everything is written. Taking PyTorch and MLflow apart object by object would cost another second.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _fail(name: str, error: CatenaError) -> int:
    print(f"{name}: {error}", file=sys.stderr, flush=True)
    return error.exit_code
