"""Prepares the builder's data before the first trial, once for each combination of choices.

Runs in the sweep process before Ray starts: all cores are free for it, the user sees its progress,
and data that does not fit the task ends the sweep before a worker starts. The workers find the
files; they write them only for values drawn from a range, or on a node that does not see the
storage folder. It must not know what is prepared.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search.sample import Categorical

from sweeps.amounts import counted
from sweeps.builders.data.prepared_data import Advance, prepared_in
from sweeps.errors import UserError
from sweeps.planning.rows import Choice
from sweeps.space.conditions import branches
from sweeps.space.plain_values import meant_choices
from sweeps.space.search_space import TOTAL_BATCH, SearchSpace, highest

if TYPE_CHECKING:
    from datasets import Dataset


def prepare_data(
    space: SearchSpace,
    folder: Path,
    *,
    workers: int,
    where: str,
    note: Callable[[str], None],
    advance: Advance | None = None,
) -> list[Choice]:
    """Call the builder's `prepare()`, if it has one, for each choice of what it reads.

    Args:
        space: The space as it will run.
        folder: Where prepared data is kept.
        workers: Workers of a trial.
        where: The space's file and name, for messages.
        note: Called with a line now and then.
        advance: Takes the progress; None: lines on it go to `note`.

    Returns:
        The data of each choice; empty if there are infinitely many.

    Raises:
        UserError: The data does not fit the task, or leaves no row for some worker.
    """
    if not space.builder.prepares:
        return []
    found = []
    with prepared_in(folder, note, advance):
        for values in _choices(space):
            data = space.builder.with_values(values).prepare()
            if problems := list(_too_few(data, values, workers)):
                raise UserError(problems, where)
            found.append(Choice(values, data))
    if space.builder.stream:
        data = found[-1].data
        if problem := _cannot_stream(data) or _less_than_a_step(space, data.train, workers):
            raise UserError(problem, where)
    return found


def streamed_rows(space: SearchSpace, choices: Sequence[Choice]) -> Dataset | None:
    """Return the train rows for Ray Data to stream; None if it streams none."""
    if not space.builder.stream:
        return None
    rows: Dataset = choices[-1].data.train
    return rows


def _cannot_stream(data: Any) -> str | None:
    from datasets import Dataset

    rows = getattr(data, "train", None)
    if dataclasses.is_dataclass(data) and isinstance(rows, Dataset) and rows.cache_files:
        return None
    return (
        "stream=True: prepare() must return a dataclass whose `train` is a datasets.Dataset"
        " backed by files"
    )


def _less_than_a_step(space: SearchSpace, rows: Dataset, workers: int) -> str | None:
    """Return a problem if an epoch has fewer rows than one optimizer step needs."""
    rows_at_once = max(highest(space, "per_device_train_batch_size"), default=8)  # HF's default
    steps = max(highest(space, "gradient_accumulation_steps"), default=1)
    most = max(highest(space, TOTAL_BATCH), default=rows_at_once * steps * workers)
    given = len(rows) // workers * workers
    if given >= most:
        return None
    return (
        f"stream=True: {given} of {len(rows)} train rows are streamed to"
        f" {counted(workers, 'worker')}, but an optimizer step needs up to {most:g}; use more"
        " data, smaller batches, or stream=False"
    )


def _choices(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Yield each combination of tuned choices that `prepare()` reads; none if one is a range."""
    reads = space.builder.data_fields
    choices: dict[str, list[dict[str, Any]]] = {}
    for branch in branches(space.tuned):
        if branch.key in reads:
            if not isinstance(branch.domain, Categorical):
                return
            values = choices.setdefault(branch.key, [{}] if branch.condition else [])
            values += [{branch.key: choice} for choice in meant_choices(branch.domain)]
    for combination in itertools.product(*choices.values()):
        yield {key: value for values in combination for key, value in values.items()}


def _too_few(data: Any, values: Mapping[str, Any], workers: int) -> Iterator[str]:
    for split in ("train", "eval"):
        table = getattr(data, split, None)
        if isinstance(table, Sized) and len(table) < workers:
            with_ = "".join(f" with {key}={value!r}" for key, value in values.items())
            yield (
                f"the data{with_} has {counted(len(table), f'{split} row')} for"
                f" {workers} workers, but each worker needs at least one; use more data or fewer"
                " workers"
            )
