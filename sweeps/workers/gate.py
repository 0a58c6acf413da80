"""The gate: after each evaluation a trial sends its report and waits for the decision.

An HF callback on every rank of a worker group; all ranks ask for the same decision, so they all act
in the same way. It must not know how a decision is made.

If a decision says to save, HF does so on all ranks at once, but what it saves stays in host memory
if possible. Training then continues while `snapshots` completes it.

A report contains what the trainer's own `evaluate` returns to the training loop, since HF judges by
that.
"""

from __future__ import annotations

import functools
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweeps.records.checkpoints import best_name, state_name
from sweeps.records.events import CheckpointKind, CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import upload_own_file
from sweeps.report import LogEntry, Report
from sweeps.workers import loss_scale
from sweeps.workers.deepspeed_trials import own_files
from sweeps.workers.evaluation.judged_rows import JudgedRows
from sweeps.workers.evaluation.loop_evaluation import Evaluate, around_loop_evaluations
from sweeps.workers.evaluation.reported_numbers import numbers_of, of_rank_0, unbox
from sweeps.workers.job import Reply
from sweeps.workers.saving import unlogged_loss
from sweeps.workers.saving.complete_snapshot import complete_snapshot
from sweeps.workers.saving.host_copies import HostCopies, Unwritten
from sweeps.workers.saving.renamed_weights import load_renamed
from sweeps.workers.saving.sharded_states import has_parts, load_parts, saves_parts
from sweeps.workers.saving.snapshots import Snapshot, Snapshots
from sweeps.workers.shared_autocast import share_autocast
from sweeps.workers.watch import Signals


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
        send: Called with rank 0's report.
        ask: Returns the decision on report `number`; blocks until there is one.
        announce: Called with rank 0's event for each complete checkpoint, in the thread of
            `snapshots`.
        signals: Receives each step, and says when to save a state between evaluations.
        name_step: Called with the step at which all ranks save; returns once all ranks know it.
    """

    def __init__(
        self,
        *,
        trial: str,
        attempt: int,
        metric: str,
        steps: Callable[[int], list[int]],
        folder: SweepFolder,
        send: Callable[[Report], None],
        ask: Callable[[int], Reply],
        announce: Callable[[CheckpointSaved], None],
        signals: Signals,
        name_step: Callable[[int], None],
    ) -> None:
        self._trainer: Trainer | None = None
        self._state: Path | None = None
        self._rows: JudgedRows | None = None
        self._trial = trial
        self._metric = metric
        self._steps_of = steps
        self._folder = folder
        self._send = send
        self._ask = ask
        self._signals = signals
        self._name_step = name_step
        self._attempt = attempt
        self.copies = copies = HostCopies()
        """Copies of what is saved; a context to exit after `snapshots`."""
        self.snapshots = Snapshots(
            functools.partial(complete_snapshot, trial, folder, announce, signals, copies),
            copies.drop,
            signals,
        )
        """Checkpoints that were saved and may be incomplete; a context to exit after the
        training."""
        self._steps: list[int] = []
        self._log_entries: list[LogEntry] = []
        self._reported: set[int] = set()
        """Steps at which a report was made."""
        self._logged = 0
        """Number of entries in HF's log up to the latest report."""
        self._saving: tuple[int, bool] | None = None
        """Number of the latest report, and whether the state to save is the trial's best."""
        self._in_parts = False
        """Whether each rank saves its own part of that state."""
        self._unwritten = Unwritten()
        """What of the state that HF has just saved is not written yet."""
        self._pausing = False
        """Whether the trial leaves its group once its state is saved."""
        self._started = time.monotonic()
        self._trained_from = (self._started, 0)
        """Time and step at which training continued after the latest report."""
        self._rows_per_s: float | None = None
        """Train rows per second since the latest report."""

    def attach(self, trainer: Trainer, state: Path | None) -> None:
        """Watch the training of a trainer, running after all callbacks that it has so far.

        Args:
            trainer: The trainer.
            state: The saved state that it resumes, if any.
        """
        self._trainer = trainer
        self._state = state
        self._rows = JudgedRows(trainer, self._metric)
        around_loop_evaluations(trainer, self._evaluation)
        if state is not None and has_parts(state):
            load_parts(trainer)
        # No public method saves a state (transformers 5.17 to 5.23).
        self._save = save = trainer._save_checkpoint
        ours = functools.partial(self._save_state)  # unlike a method, it takes attributes
        trainer._save_checkpoint = functools.wraps(save)(ours)
        trainer.add_callback(self)

    def detach(self) -> None:
        """Stop watching the trainer."""
        self._trainer = self._rows = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Plan the evaluations; prepare the model, and restore what HF does not of a state."""
        assert self._trainer is not None
        share_autocast(self._trainer)
        if self._state is not None:
            load_renamed(self._trainer, self._state)
            unlogged_loss.restore(self._trainer, self._state)
            loss_scale.restore(self._trainer, self._state)
        self._signals.alive()
        self._signals.max_steps = state.max_steps
        self._signals.rows_per_step = (
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        )
        self._started = time.monotonic()
        self._trained_from = (self._started, state.global_step)
        self._steps = self._steps_of(state.max_steps)
        self._logged = len(state.log_history)
        self._reported = {step for step in self._steps if step <= state.global_step}
        last = max(self._reported, default=0)
        for logs in state.log_history:
            if logs["step"] > last:
                self._take_log_entry(int(logs["step"]), logs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Request an evaluation from HF if one is due, and a save if one was ordered."""
        self._signals.alive()
        self.snapshots.check()
        step = self._signals.step = state.global_step
        if self._signals.name_a_step:
            self._signals.name_a_step = False
            # No other rank can be past the next step: its gradients need this rank.
            self._name_step(step + 1)
        if step == self._signals.save_at and step < state.max_steps:
            number = sum(evaluation <= step for evaluation in self._steps)
            self._have_state_saved(control, number, is_best=False)
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
        self._take_log_entry(state.global_step, logs or {})
        control.should_evaluate |= self._is_due(state.global_step)

    def _take_log_entry(self, step: int, logs: Mapping[str, float]) -> None:
        if "loss" in logs:
            loss, rate = float(logs["loss"]), logs.get("learning_rate")
            self._signals.log_entry = LogEntry(step=step, loss=loss, learning_rate=rate)
            self._log_entries.append(self._signals.log_entry)

    def _evaluation(self, evaluate: Evaluate) -> Any:
        """Return the result of an evaluation by the training loop.

        If a report is due, send it and carry out the decision.
        """
        trainer = self._trainer
        assert trainer is not None
        self._signals.phase = "evaluation"
        self._rows_per_s = self._speed(trainer.state.global_step)
        metrics = of_rank_0(evaluate())
        self._signals.phase = "training"
        step = trainer.state.global_step
        if self._is_due(step) or self._ends_unreported(trainer.state, trainer.control):
            self._gate(trainer, metrics)
            self._trained_from = (time.monotonic(), step)
        return metrics

    def _speed(self, step: int) -> float | None:
        """Return the train rows per second since the latest report."""
        since, before = self._trained_from
        seconds = time.monotonic() - since
        return (step - before) * self._signals.rows_per_step / seconds if seconds > 0 else None

    def _gate(self, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
        """Report, wait for the decision, and carry it out."""
        args, state, control = trainer.args, trainer.state, trainer.control
        number = bisect_left(self._steps, state.global_step) + 1
        report = self._report(number, state, control, metrics)
        if args.process_index == 0:
            self._send(report)
        answer = self._ask(number)
        self._reported.add(state.global_step)
        control.should_evaluate = False  # an evaluation without `on_evaluate` leaves it set
        self._pausing = answer.decision == "pause"
        if answer.decision == "stop":
            control.should_training_stop = True
        elif self._pausing or answer.save_state or self._saving is not None:
            self._have_state_saved(control, number, is_best=answer.save_best)
            return
        self._saving, control.should_save = None, False
        if answer.save_best:
            self._save_best(trainer, number)

    def _have_state_saved(self, control: TrainerControl, number: int, *, is_best: bool) -> None:
        """Make HF save a complete state once the callbacks of this step have run."""
        assert self._trainer is not None
        self._in_parts = saves_parts(self._trainer, self._save)
        if is_best and self._in_parts:
            self._save_best(self._trainer, number)  # the parts are no model that can be exported
            is_best = False
        with self._saving_together():
            self.snapshots.make_room({"best", "state"} if is_best else {"state"})
        self._saving = (number, is_best)
        control.should_save = True

    @contextmanager
    def _saving_together(self) -> Iterator[None]:
        """All ranks save within the context, and leave it together.

        A rank that waits here for the others does not count as stalled.
        """
        with self._signals.save():
            yield
            if dist.is_initialized():
                dist.barrier()

    def _save_state(self, *given: Any, **named: Any) -> None:
        """Save a state as HF does; if training goes on afterwards, it may be written later.

        Parts are always written by the threads of the ranks.
        """
        trainer = self._trainer
        assert trainer is not None
        step = trainer.state.global_step
        place = self._place() / state_name(step)
        with self._signals.save():
            if self._saving is None or (self._leaves_at(step) and not self._in_parts):
                self._save(*given, **named)
            else:
                save = self.copies.save_part if self._in_parts else self.copies.save_state
                self._unwritten = save(trainer, place, self._save, *given, **named)

    def _leaves_at(self, step: int) -> bool:
        """Tell whether the trial leaves its group once its state of this step is saved."""
        return self._pausing or step == self._signals.save_at

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Queue the state that HF has just saved for completion, and its model if it is the best.

        A trial that pauses, or is on a draining node, then leaves its group.
        """
        if self._saving is None:
            return
        assert self._trainer is not None
        if self._leaves_at(state.global_step):
            self._signals.left_by = "paused" if self._pausing else "preempted"
            control.should_training_stop = True
        number, is_best = self._saving
        self._saving = None
        self._signals.alive()
        saved = self._place() / state_name(state.global_step)
        loss_scale.save(self._trainer, saved)
        unlogged = unlogged_loss.save(self._trainer, saved)
        with self._saving_together():
            if args.process_index != 0:
                rng = saved / f"rng_state_{args.process_index}.pth"
                for own in (rng, unlogged, *own_files(saved, args.process_index)):
                    upload_own_file(self._folder, own)
        if args.process_index != 0 and not self._in_parts:
            return
        paths: dict[CheckpointKind, Path] = {"state": saved}
        if is_best:
            paths = {"best": self._place() / best_name(state.global_step), **paths}
        unwritten, self._unwritten = self._unwritten, Unwritten()
        self.snapshots.put(
            Snapshot(
                number=number,
                step=state.global_step,
                paths=paths,
                unwritten=unwritten,
                in_parts=self._in_parts,
            )
        )

    def _place(self) -> Path:
        return self._folder.checkpoints / self._trial

    def _report(
        self,
        number: int,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any],
    ) -> Report:
        assert self._rows is not None
        logged = state.log_history[self._logged :]
        self._logged = len(state.log_history)
        for entry in logged:
            unbox(entry)
        numbers = numbers_of(metrics, self._metric, logged)
        judged = self._rows.take(numbers)
        entries, self._log_entries = tuple(self._log_entries), []
        return Report(
            trial=self._trial,
            number=number,
            attempt=self._attempt,
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=float(state.epoch or 0.0),
            metrics=numbers,
            ends_itself=control.should_training_stop and state.global_step < state.max_steps,
            eval_rows=judged.rows,
            labels_per_row=judged.labels_per_row,
            right_rows=judged.right,
            classes_differ=judged.classes_differ,
            majority=judged.majority,
            row_parts=judged.parts,
            train_s=time.monotonic() - self._started,
            rows_per_s=self._rows_per_s,
            memory_bytes=psutil.Process().memory_info().rss,
            gpu_memory_bytes=torch.cuda.max_memory_allocated() or None,
            log_entries=entries,
        )

    def _save_best(self, trainer: Trainer, number: int) -> None:
        step = trainer.state.global_step
        best = self._place() / best_name(step)
        with self._saving_together():
            self.snapshots.make_room({"best"})
            unwritten = self.copies.save_model(trainer, best)
        if trainer.args.process_index == 0:
            paths: dict[CheckpointKind, Path] = {"best": best}
            self.snapshots.put(Snapshot(number=number, step=step, paths=paths, unwritten=unwritten))
