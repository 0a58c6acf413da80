"""Lets HF save arguments whose class is only defined in the user's code.

Runs in a worker, while a trial trains. It must not know what the arguments contain.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainingArguments


@contextmanager
def saved_by_value(args: TrainingArguments) -> Iterator[None]:
    """Make the arguments pickle as a dict if their class cannot be imported by name.

    HF pickles them into every checkpoint as `training_args.bin`, which nothing here reads. The
    class of a space that was created in Python was sent by value, so pickle would not find it.
    """
    kind = type(args)
    if getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind:
        yield
        return
    copyreg.pickle(kind, _as_dict)
    try:
        yield
    finally:
        del copyreg.dispatch_table[kind]


def _as_dict(args: Any) -> tuple[type, tuple[dict[str, Any]]]:
    return dict, (vars(args),)
