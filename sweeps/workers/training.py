"""One job from params to a trained model: arguments, builder, gate, `Trainer.train()`.

Runs in a worker; the model process also uses `make_trainer`. It must not know where reports go:
it receives a `Link`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from ray.data import DataIterator
from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer
from transformers import EarlyStoppingCallback, SchedulerType, Trainer, set_seed

from sweeps.builders.data.prepared_data import prepared_in
from sweeps.builders.own_optimizer import refuse_ignored
from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import fetch_checkpoint, free_elsewhere
from sweeps.space.adapted import Adapted
from sweeps.space.arguments import (
    Devices,
    argument_values,
    training_arguments,
    trial_values,
    tuned_fields,
)
from sweeps.space.builder import DATA, EVAL
from sweeps.space.search_space import SearchSpace
from sweeps.space.sharding import config_problem, uses_deepspeed
from sweeps.workers import deepspeed_trials
from sweeps.workers.builder_call import call_builder
from sweeps.workers.failures.out_of_memory import exhausted_memory, what_takes_less
from sweeps.workers.gate import Gate, evaluation_steps
from sweeps.workers.job import Job
from sweeps.workers.link import Link
from sweeps.workers.loss_scale import watch_loss
from sweeps.workers.own_arguments import saved_by_value
from sweeps.workers.rows.row_source import own_share
from sweeps.workers.rows.seeded_rows import seed_rows
from sweeps.workers.rows.streamed_rows import StreamedRows, take_as_they_come
from sweeps.workers.saving.sharded_states import own_errors
from sweeps.workers.signals import Signals
from sweeps.workers.tracker_runs import end_runs

logger = logging.getLogger("sweeps")


def train(
    space: SearchSpace,
    job: Job,
    *,
    devices: Devices,
    folder: SweepFolder,
    link: Link,
    signals: Signals,
    fits: Callable[[], bool],
) -> float:
    """Train one job to its end, or until the gate stops it.

    Args:
        space: The search space.
        job: Params, seed, and the checkpoint to continue from.
        devices: What the trial runs on.
        folder: The sweep's folder; checkpoints go inside it.
        link: Takes its reports and gives the decisions.
        signals: Shared by the gate and the worker's watch.
        fits: Returns, once the trainer is built, whether it may train in this process.

    Returns:
        Seconds inside `Trainer.train()`.
    """
    output = folder.checkpoints / job.trial
    trainer = make_trainer(space, job, devices=devices, output=output, prepared=folder.prepared)
    if not fits():
        _free(trainer)
        signals.left_by = "misplaced"
        return 0.0
    gate = Gate(
        trial=job.trial,
        attempt=job.attempt,
        metric=space.metric,
        steps=partial(evaluation_steps, evaluations=space.evals_per_trial),
        folder=folder,
        link=link,
        signals=signals,
    )
    return run(trainer, gate, folder, job.checkpoint)


def make_trainer(
    space: SearchSpace, job: Job, *, devices: Devices, output: Path, prepared: Path
) -> Trainer:
    """Return the trainer that the space's builder makes for a job.

    Args:
        space: The search space.
        job: Params, seed, and what runs with fewer rows.
        devices: What the trial runs on.
        output: The folder for its checkpoints.
        prepared: The folder of prepared data.

    Raises:
        UserError: `fsdp_config` names layers that the model does not have, the DeepSpeed config
            cannot be used, something in the trainer monitors a metric that HF does not find, or its
            own optimizer or schedule ignores a value of the space.
    """
    make = argument_values if space.builder.makes_arguments else training_arguments
    output.mkdir(parents=True, exist_ok=True)  # a builder may write to it
    if uses_deepspeed(space):
        os.environ.setdefault("LOCAL_RANK", "0")  # required, but a single worker may lack it
    args = make(
        space, job.params, devices=devices, output_dir=output, seed=job.seed, reduced=job.reduced
    )
    set_seed(job.seed)  # before the model is built, which initialises a new head
    _, keywords = trial_values(space, job.params)
    shard = own_share() if space.builder.stream else None
    tuned, fixed = tuned_fields(space, job.params), tuned_fields(space, space.fixed)
    builder = space.builder.with_fewer_rows(job.reduced).own
    with prepared_in(prepared):
        trainer = prepare_trainer(build(builder, args, keywords, shard, tuned, fixed))
    if trainer.args.fsdp and (problem := config_problem(trainer.args.fsdp_config, trainer.model)):
        raise UserError(problem)
    if trainer.args.deepspeed and (
        problem := deepspeed_trials.config_problem(trainer.args.hf_deepspeed_config)
    ):
        raise UserError(problem)
    if not space.metric.startswith(EVAL) and (follower := _follower_of_metric(trainer)):
        raise UserError(
            f"{follower} monitors only metrics whose names begin with {EVAL!r}, and the sweep's"
            f" metric is {space.metric!r}; have the evaluation return its value as"
            f" {EVAL + space.metric!r}, and set metric to that"
        )
    refuse_ignored(trainer, tuned | fixed)
    watch_loss(trainer, space.builder.name)
    seed_rows(trainer)
    return trainer


def _follower_of_metric(trainer: Trainer) -> str | None:
    """Return the argument or callback that monitors the metric during training, if there is one."""
    if trainer.args.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU:
        return f"lr_scheduler_type={SchedulerType.REDUCE_ON_PLATEAU.value!r}"
    stops = any(
        isinstance(one, EarlyStoppingCallback) for one in trainer.callback_handler.callbacks
    )
    return EarlyStoppingCallback.__name__ if stops else None


def run(trainer: Trainer, gate: Gate, folder: SweepFolder, checkpoint: str | None) -> float:
    """Train from a checkpoint or step 0, to the end or until the gate stops it; free the trainer.

    All checkpoints that were saved are complete when this returns, or raises an error of the
    training.

    Args:
        trainer: The trainer; unusable afterwards.
        gate: Its gate.
        folder: The folder that holds the checkpoint.
        checkpoint: HF folder, relative to `folder`.

    Returns:
        Seconds inside `Trainer.train()`.

    Raises:
        UserError: A different number of workers has saved the checkpoint, with DeepSpeed.
    """
    path = fetch_checkpoint(folder, checkpoint) if checkpoint else None
    if path and trainer.is_deepspeed_enabled:
        problem = deepspeed_trials.resume_problem(path, trainer.args.world_size)
        if problem:
            raise UserError(problem)
    gate.attach(trainer, path)
    started = time.monotonic()
    with own_errors(), gate.saves, saved_by_value(trainer.args):
        try:
            trainer.train(resume_from_checkpoint=str(path) if path else None)
        except Exception as error:
            if exhausted_memory(error) and not trainer.is_deepspeed_enabled:
                error.add_note(what_takes_less(trainer))
            raise
        train_s = time.monotonic() - started
    if path:
        free_elsewhere(folder, path)
    gate.detach()
    end_runs()
    _free(trainer)
    return train_s


def build(
    builder: Callable[..., Any],
    args: Any,
    keywords: dict[str, Any],
    shard: DataIterator | None = None,
    tuned: Collection[str] = (),
    fixed: Collection[str] = (),
) -> Trainer:
    """Return the trainer that a builder makes from arguments and its own keywords.

    If `shard` is set, this rank's shard from Ray Data, the rows of the prepared `data.train` come
    from it. The builder must not change the `tuned` and `fixed` fields of the arguments.
    """
    configured = Adapted(builder).with_values(keywords)
    prepared = {}
    if configured.prepares:
        data = configured.prepare()
        if shard is not None:
            seed = args.seed if args.data_seed is None else args.data_seed
            rows = StreamedRows(shard, data.train, workers=args.world_size, seed=seed)
            data = dataclasses.replace(data, train=rows)
        prepared[DATA] = data
    if configured.makes_arguments:
        trainer: Trainer = configured(args, keywords)
    else:
        trainer = call_builder(
            lambda: configured(args, keywords, **prepared), args, configured.name, tuned, fixed
        )
    if shard is not None:
        take_as_they_come(trainer)
    if any(isinstance(own, RayTrainReportCallback) for own in trainer.callback_handler.callbacks):
        # It would copy each checkpoint to Ray Train, where nothing reads it.
        trainer.remove_callback(RayTrainReportCallback)
        logger.info(
            "removed the builder's RayTrainReportCallback: `sweeps` does the reporting itself"
        )
    return trainer


def _free(trainer: Trainer) -> None:
    """Drop everything that a trainer references, even if the trainer itself is still referenced.

    Data-loader processes end at once only when the last reference to their loader is dropped. If
    the garbage collector finds the loader in a cycle (a callback that references the trainer), it
    frees the queues first, and each process that misses the end costs 5 s (torch 2.13).
    """
    trainer.accelerator.free_memory()
    vars(trainer.callback_handler).clear()
    vars(trainer).clear()
