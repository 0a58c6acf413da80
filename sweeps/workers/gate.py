"""The gate: after each evaluation a trial sends its report and waits for the decision.

An HF callback on every rank of a worker group; all ranks ask for the same decision, so they all act
in the same way. It must not know how a decision is made, or how a trial is saved.

A report contains what the trainer's own `evaluate` returns to the training loop, since HF judges by
that.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweeps.records.folder import SweepFolder
from sweeps.workers.evaluation.loop_evaluation import Evaluate, around_loop_evaluations
from sweeps.workers.evaluation.reported_numbers import of_rank_0
from sweeps.workers.evaluation.trial_reports import TrialReports
from sweeps.workers.link import Link
from sweeps.workers.messages import LeftBy
from sweeps.workers.saving.trial_saves import TrialSaves
from sweeps.workers.shared_autocast import share_autocast
from sweeps.workers.signals import Signals


def evaluation_steps(max_steps: int, evaluations: int) -> list[int]:
    """Return the optimizer steps after which a trial evaluates; the last one is its end.

    Report `i` of `n` comes at the first step with a progress of at least `i / n`; a trial with
    fewer steps than evaluations evaluates after each step.
    """
    return sorted({math.ceil(i * max_steps / evaluations) for i in range(1, evaluations + 1)})


class Gate(TrainerCallback):
    """Evaluates at evenly spaced steps, reports, waits for the decision, and carries it out.

    Args:
        trial: Trial id.
        attempt: Number of the attempt.
        metric: The judged metric.
        steps: Returns the optimizer steps after which a trial with this many steps evaluates.
        folder: The sweep's folder.
        link: Takes the reports and gives the decisions.
        signals: Receives each step, and says when to save a state between evaluations.
    """

    def __init__(
        self,
        *,
        trial: str,
        attempt: int,
        metric: str,
        steps: Callable[[int], list[int]],
        folder: SweepFolder,
        link: Link,
        signals: Signals,
    ) -> None:
        self._trainer: Trainer | None = None
        self._steps_of = steps
        self._link = link
        self._signals = signals
        self.saves = TrialSaves(trial, folder, link.announce, signals)
        """What the trial saves; a context to exit after the training."""
        self._reports = TrialReports(trial, attempt, metric, signals)
        self._steps: list[int] = []
        self._reported: set[int] = set()
        """Steps at which a report was made."""

    def attach(self, trainer: Trainer, state: Path | None) -> None:
        """Watch the training of a trainer, running after all callbacks that it has so far.

        Args:
            trainer: The trainer.
            state: The saved state that it resumes, if any.
        """
        self._trainer = trainer
        self._reports.attach(trainer)
        around_loop_evaluations(trainer, self._evaluation)
        self.saves.attach(trainer, state)
        trainer.add_callback(self)

    def detach(self) -> None:
        """Stop watching the trainer."""
        self._reports.detach()
        self.saves.detach()
        self._trainer = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Plan the evaluations; prepare the model, and restore what HF does not of a state."""
        assert self._trainer is not None
        share_autocast(self._trainer)
        self.saves.restore()
        self._signals.alive()
        self._signals.max_steps = state.max_steps
        self._signals.rows_per_step = (
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        )
        self._steps = self._steps_of(state.max_steps)
        self._reported = {step for step in self._steps if step <= state.global_step}
        self._reports.begin(state, last=max(self._reported, default=0))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Request an evaluation from HF if one is due, and a save if one was ordered."""
        self._signals.alive()
        self.saves.check()
        step = self._signals.step = state.global_step
        if self._signals.name_a_step:
            self._signals.name_a_step = False
            # No other rank can be past the next step: its gradients need this rank.
            self._link.name_step(step + 1)
        if step == self._signals.save_at and step < state.max_steps:
            number = sum(evaluation <= step for evaluation in self._steps)
            self.saves.request_state(control, number, is_best=False, leaves="preempted")
        control.should_evaluate |= self._is_due(step)

    def _is_due(self, step: int) -> bool:
        return step in self._steps and step not in self._reported

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Request the only evaluation of a trial that ends itself before its first report."""
        if self._ends_unreported(state, control):
            control.should_evaluate = True

    def _ends_unreported(self, state: TrainerState, control: TrainerControl) -> bool:
        leaves = self._signals.left_by != "done"
        return (
            control.should_training_stop and not leaves and 0 < state.global_step < self._steps[0]
        )

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Record a sign of life."""
        self._signals.alive()

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Record a sign of life."""
        self._signals.alive()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keep the training loss for the next report, and request a due evaluation again.

        HF forgets a requested evaluation when a callback has run its own evaluation.
        """
        self._reports.log(state.global_step, logs or {})
        control.should_evaluate |= self._is_due(state.global_step)

    def _evaluation(self, evaluate: Evaluate) -> Any:
        """Return the result of an evaluation by the training loop.

        If a report is due, send it and carry out the decision.
        """
        trainer = self._trainer
        assert trainer is not None
        step = trainer.state.global_step
        self._signals.phase = "evaluation"
        self._reports.training_pauses(step)
        metrics = of_rank_0(evaluate())
        self._signals.phase = "training"
        if self._is_due(step) or self._ends_unreported(trainer.state, trainer.control):
            self._gate(trainer, metrics)
            self._reports.training_continues(step)
        return metrics

    def _gate(self, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
        """Report, wait for the decision, and carry it out."""
        control, step = trainer.control, trainer.state.global_step
        number = bisect_left(self._steps, step) + 1
        report = self._reports.report(number, trainer, metrics)
        if trainer.args.process_index == 0:
            self._link.report(report)
        answer = self._link.answer(number)
        self._reported.add(step)
        control.should_evaluate = False  # an evaluation without `on_evaluate` leaves it set
        leaves: LeftBy | None = "preempted" if step == self._signals.save_at else None
        if answer.decision == "stop":
            control.should_training_stop = True
        elif answer.decision == "pause" or answer.save_state or self.saves.state_is_due:
            leaves = "paused" if answer.decision == "pause" else leaves
            self.saves.request_state(control, number, is_best=answer.save_best, leaves=leaves)
            return
        self.saves.withdraw_state(control)
        if answer.save_best:
            self.saves.save_best(number)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Have the saved state completed; a trial that leaves its group then ends its training."""
        self.saves.queue_state(control)
