"""The smoke run: a few steps, a short evaluation, a saved state, and one step from that state.

Runs in a worker group before the first trial, with that trial's params and the code of a trial. It
must not know what its findings are used for.
"""

from __future__ import annotations

import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweeps.records.checkpoints import state_name
from sweeps.records.events import SmokeMeasured
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space.arguments import Devices
from sweeps.space.search_space import SearchSpace
from sweeps.workers.evaluation.short_evaluation import ShortEvaluation
from sweeps.workers.gate import Gate
from sweeps.workers.gpu_use import most_memory
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.pace import TIMED, now, pace
from sweeps.workers.signals import Signals
from sweeps.workers.training import make_trainer, run


def smoke(
    space: SearchSpace,
    job: Job,
    *,
    devices: Devices,
    folder: SweepFolder,
    link: Link,
    signals: Signals,
) -> None:
    """Do everything that a trial does, once; a second trainer continues from the saved state.

    Args:
        space: The search space.
        job: The first trial's params and seed.
        devices: What a trial runs on.
        folder: The sweep's folder; saved states go into its `smoke` folder.
        link: Receives what rank 0 measured; there are no reports or checkpoints of a trial.
        signals: As for a trial.
    """
    place = folder.smoke
    output = place.checkpoints / job.trial

    def part(checkpoint: str | None) -> int:
        """Train until a state is saved, or for one step from the checkpoint.

        Return the last step.
        """
        trainer = make_trainer(space, job, devices=devices, output=output, prepared=folder.prepared)
        clock = _Clock(stops=checkpoint is not None)
        short = ShortEvaluation(trainer, space.metric)
        scaled = trainer.model_accepts_loss_kwargs

        def measured(report: Report) -> None:
            link.announce(
                SmokeMeasured(
                    steps=report.max_steps,
                    step_s=pace(clock.ends),
                    batches=short.batches,
                    batch_s=short.batch_s,
                    metrics=report.metrics,
                    gpu_memory=most_memory() if devices.gpu else None,
                    diverged=report.non_finite(space.metric),
                    mean_loss=scaled and not trainer.model_accepts_loss_kwargs,
                )
            )

        gate = Gate(
            trial=job.trial,
            attempt=job.attempt,
            metric=space.metric,
            steps=_evaluation_step,
            folder=place,
            link=Link(
                report=measured,
                answer=lambda _: Reply("continue", save_best=True, save_state=True),
                announce=lambda _: None,
                name_step=link.name_step,
            ),
            signals=signals,
        )
        trainer.add_callback(clock)
        run(trainer, gate, place, checkpoint)
        return clock.step

    state = output / state_name(part(None))
    if dist.is_initialized():
        dist.barrier()  # until rank 0 has marked it as complete
    part(str(state.relative_to(place.path)))


def _evaluation_step(max_steps: int) -> list[int]:
    """Return the step to evaluate and save at; one more step follows from the saved state."""
    return [min(TIMED, max_steps)]


class _Clock(TrainerCallback):
    """Times the steps, and ends the training after a save.

    Args:
        stops: Whether to end the training after one step.
    """

    def __init__(self, stops: bool) -> None:
        self.step = 0
        """Optimizer steps done."""
        self.ends = list[float]()
        """The time before the first step, and the time after each."""
        self._stops = stops

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start the clock."""
        self.step = state.global_step
        self.ends = [now()]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Time the step, and request the loss in the log, since it may not be finite."""
        self.ends.append(now())
        self.step = state.global_step
        control.should_log = True
        control.should_training_stop |= self._stops

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """End the training."""
        control.should_training_stop = True
