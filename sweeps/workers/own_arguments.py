"""Lets HF save arguments of a class that only the user's code knows.

Runs in a worker, while a trial trains. It must not know what the arguments say.
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
    """Have the arguments pickled as a dict if their class cannot be imported by its name.

    HF pickles them into every checkpoint as `training_args.bin`, which nothing reads here. The
    class of a space that was made in Python has come by value, so pickle would not find it.
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
