"""Distinguishes the evaluations that a training loop requests from all others of the same trainer.

Runs in a worker, on every rank. It must not know what follows from an evaluation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from transformers import Trainer

Evaluate = Callable[[], Any]


def around_loop_evaluations(trainer: Trainer, around: Callable[[Evaluate], Any]) -> None:
    """Pass each evaluation that the training loop requests through `around`.

    HF judges by what `Trainer.evaluate` returns to its loop. A subclass may add to the result,
    evaluate several sets, or skip callbacks, and callbacks may run their own evaluations. The
    loop's evaluation is the one that begins outside any callback or other evaluation while
    `should_evaluate` is set.

    `CallbackHandler.call_event` is not documented (transformers 5.17 to 5.23): every event of every
    callback passes through it. `tests/workers/test_loop_evaluation.py` checks that.

    Args:
        trainer: Its `evaluate` and its handler's `call_event` are wrapped.
        around: Called with a function that evaluates as the trainer does; its result goes to the
            loop.
    """
    handler = trainer.callback_handler
    evaluate, call_event = trainer.evaluate, handler.call_event
    depth = 0  # number of events and evaluations in progress

    @functools.wraps(call_event)
    def event(*args: Any, **options: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return call_event(*args, **options)
        finally:
            depth -= 1

    @functools.wraps(evaluate)
    def evaluation(*args: Any, **options: Any) -> Any:
        nonlocal depth
        asked = depth == 0 and trainer.control.should_evaluate
        own = functools.partial(evaluate, *args, **options)
        depth += 1
        try:
            return around(own) if asked else own()
        finally:
            depth -= 1

    trainer.evaluate = evaluation
    handler.call_event = event
