"""The flow `finetune`: prepare → tokenize → train → evaluate → register, one Prefect task each.

`python flows/finetune.py` runs it here and now. `prefect.yaml` makes deployments of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if str(Path(__file__).resolve().parent.parent) not in sys.path:  # `python flows/finetune.py`
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import flows.quiet  # noqa: F401, I001 - must come before prefect is imported

from prefect import State, Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Completed, Failed

from catena.errors import CatenaError
from catena.files import exclusive
from catena.layout import Layout
from flows.artifacts import publish
from flows.parameters import apply_overrides
from flows.preflight import read_project
from flows.progress import TrainingProgress
from flows.stages import Outcome, changed_stages, run_stage

STOPPED = "Stopped"  # name of the failed state that only its user can mend

# What DVC finds changed, asked for while Prefect's temporary server starts.
_asked: ContextVar[Future[tuple[str, ...]] | None] = ContextVar("asked", default=None)


@dataclass(frozen=True)
class Chain:
    """One run of the chain: the project, and the first stage that may have something to do."""

    layout: Layout
    unchanged: frozenset[str]


def worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again could help: not where the user has something to put right."""
    return state.name != STOPPED


@task(cache_policy=NO_CACHE, retries=1, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def prepare(chain: Chain) -> State[Any]:
    """Raw records → clean, separate training, validation and test parts."""
    return _bring_up_to_date(chain, "prepare")


@task(cache_policy=NO_CACHE, retries=1, retry_delay_seconds=5, retry_condition_fn=worth_retrying)
def tokenize(chain: Chain) -> State[Any]:
    """Records → token ids, and the tokenizer."""
    return _bring_up_to_date(chain, "tokenize")


# A retry goes on from the last checkpoint. A concurrency limit on the tag keeps a GPU to one training.
@task(
    cache_policy=NO_CACHE,
    tags=["training"],
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=worth_retrying,
)
def train(chain: Chain) -> State[Any]:
    """Token ids → fine-tuned weights."""
    with TrainingProgress() as progress:
        state = _bring_up_to_date(chain, "train", progress.read)
        if state.is_completed():
            progress.finish()
    return state


@task(cache_policy=NO_CACHE, retries=1, retry_delay_seconds=10, retry_condition_fn=worth_retrying)
def evaluate(chain: Chain) -> State[Any]:
    """The model on the test part: intervals, slices, baselines, a report."""
    return _bring_up_to_date(chain, "evaluate")


# The registry may be across a network, and down for a moment.
@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[5, 20, 60], retry_condition_fn=worth_retrying)
def register(chain: Chain) -> State[Any]:
    """The model into the registry, through the gate."""
    return _bring_up_to_date(chain, "register")


@flow(name="finetune", persist_result=False, validate_parameters=True)
def finetune(project: str | None = None, parameters: dict[str, Any] | None = None) -> State[Any]:
    """Run what is not up to date of prepare → tokenize → train → evaluate → register.

    Args:
        project: Folder of the project; by default the current one or the nearest above it.
        parameters: Dotted parameters to set in `params.yaml` first, such as `{"training.epochs": 1}`.
    """
    try:
        layout = Layout.find(Path(project) if project else None)
        with exclusive(layout.lock("flow"), "A flow"):
            if parameters:
                apply_overrides(layout, parameters)
            read_project(layout)
            return _run_chain(layout)
    except CatenaError as error:
        return Failed(name=STOPPED, message=str(error))


def _run_chain(layout: Layout) -> State[Any]:
    steps = (prepare, tokenize, train, evaluate, register)
    names = tuple(step.name for step in steps)
    asked = _asked.get()
    changed = asked.result() if asked else changed_stages(layout.root, names)
    first = names.index(changed[0]) if changed else len(names)
    chain = Chain(layout, frozenset(names[:first]))
    for step in steps:
        state: State[Any] = step(chain, return_state=True)
        if not state.is_completed():
            return Failed(name=state.name, message=f"{step.name}: {state.message}")
    return Completed(message="The chain is up to date." if changed else "There was nothing to do.")


def _bring_up_to_date(
    chain: Chain, stage: str, on_progress: Callable[[str], bool] | None = None
) -> State[Any]:
    """Run one stage; its lines go to the task's log, its reports to Prefect's artifacts."""
    logger = get_run_logger()

    def on_line(line: str) -> None:
        if on_progress is None or on_progress(line):
            logger.info("%s", line)

    if stage in chain.unchanged:
        logger.info("Stage '%s' didn't change, skipping", stage)
        outcome = Outcome("skipped", "nothing to do")
    else:
        outcome = run_stage(chain.layout.root, stage, on_line)
    if outcome.kind == "refused":
        logger.error("%s", outcome.message)
        return Failed(name=STOPPED, message=outcome.message)
    if outcome.kind == "failed":
        return Failed(message=outcome.message)
    publish(stage, chain.layout)
    return Completed(name="Skipped" if outcome.kind == "skipped" else None, message=outcome.message)


def main() -> int:
    """Run the flow in the project at hand and print the closing table; the exit status."""
    from flows.server import server
    from flows.summary import print_summary

    started = time.perf_counter()
    try:
        layout = Layout.find()
        read_project(layout)
        with exclusive(layout.lock("flow"), "A flow"):
            pass  # a folder that is busy is not worth starting a server for
        with ThreadPoolExecutor(1) as beside:
            _asked.set(beside.submit(changed_stages, layout.root))
            with server():
                state: State[Any] = finetune(return_state=True)
    except CatenaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped; run it again to go on where it was.", file=sys.stderr)
        return 130
    if state.is_completed():
        print_summary(layout, time.perf_counter() - started)
        return 0
    print(state.message, file=sys.stderr)
    return CatenaError.exit_code if state.name == STOPPED else 1


if __name__ == "__main__":
    sys.exit(main())
