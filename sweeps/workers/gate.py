"""The gate: after each evaluation a trial sends its report and waits for the decision.

An HF callback on every rank of a worker group; all ranks ask for the same decision, so all do the
same. It must not know how a decision is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sweeps.records.checkpoints import best_name, finish_checkpoint, link_best, state_name
from sweeps.records.events import CheckpointKind, CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import upload_checkpoint, upload_own_file
from sweeps.report import LogEntry, Report
from sweeps.workers.job import Answer
from sweeps.workers.watch import Signals


def evaluation_steps(max_steps: int, evaluations: int) -> list[int]:
    """Return the optimizer steps after which a trial evaluates, the last at its end.

    Report `i` of `n` comes at the first step whose progress is at least `i / n`; a trial of fewer
    steps than evaluations evaluates at each.
    """
    return sorted({math.ceil(i * max_steps / evaluations) for i in range(1, evaluations + 1)})


class Gate(TrainerCallback):
    """Evaluates at even steps, reports, waits for the decision, and carries it out.

    Args:
        trial: Trial id.
        attempt: Number of the attempt.
        steps: Returns the optimizer steps after which a trial with this many steps evaluates.
        folder: The sweep's folder.
        send: Takes rank 0's report.
        ask: Returns the decision on report `number`; blocks until there is one.
        announce: Takes rank 0's event for each whole checkpoint.
        signals: Gets each step; says when a state is to be saved between evaluations.
        name_step: Takes the step at which all ranks save; returns once all ranks know.
    """

    def __init__(
        self,
        *,
        trial: str,
        attempt: int,
        steps: Callable[[int], list[int]],
        folder: SweepFolder,
        send: Callable[[Report], None],
        ask: Callable[[int], Answer],
        announce: Callable[[CheckpointSaved], None],
        signals: Signals,
        name_step: Callable[[int], None],
    ) -> None:
        self.trainer: Trainer | None = None
        """Set by the caller once the trainer is built."""
        self._trial = trial
        self._steps_of = steps
        self._folder = folder
        self._send = send
        self._ask = ask
        self._announce = announce
        self._signals = signals
        self._name_step = name_step
        self._attempt = attempt
        self._steps: list[int] = []
        self._log_entries: list[LogEntry] = []
        self._metrics: dict[str, Mapping[str, float]] = {}
        """What this evaluation has produced so far, by the name of the evaluation set."""
        self._reported: set[int] = set()
        self._saving: tuple[int, bool] | None = None
        """Number of the newest report, and whether the state is its trial's best."""
        self._pausing = False
        """Whether the trial leaves its group once its state is saved."""
        self._started = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Plan the evaluations; restore the training log since the last one of a resumed state."""
        self._signals.alive()
        self._started = time.monotonic()
        self._steps = self._steps_of(state.max_steps)
        last = max((step for step in self._steps if step <= state.global_step), default=0)
        for logs in state.log_history:
            if logs["step"] > last:
                self._take_log_entry(int(logs["step"]), logs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Request an evaluation from HF where one is due, and a save where one is ordered."""
        self._signals.alive()
        step = state.global_step
        if self._signals.name_a_step:
            self._signals.name_a_step = False
            # No other rank can be past the next step: its gradients need this rank.
            self._name_step(step + 1)
        if step == self._signals.save_at and step < state.max_steps:
            self._saving = (sum(evaluation <= step for evaluation in self._steps), False)
            control.should_save = True
        if step in self._steps:
            self._signals.phase = "evaluation"
            control.should_evaluate = True

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
        """Keep the training loss for the next report."""
        self._take_log_entry(state.global_step, logs or {})

    def _take_log_entry(self, step: int, logs: Mapping[str, float]) -> None:
        if "loss" in logs:
            loss, rate = float(logs["loss"]), logs.get("learning_rate")
            self._log_entries.append(LogEntry(step=step, loss=loss, learning_rate=rate))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report once all evaluation sets are done, wait for the decision, and carry it out."""
        step = state.global_step
        if step not in self._steps or step in self._reported:
            self._signals.phase = "training"
            return  # an evaluation of the user's own, outside the cadence
        sets = self._eval_sets()
        self._metrics[_set_of(metrics or {}, sets)] = metrics or {}
        if self._metrics.keys() < sets.keys():
            return
        self._signals.phase = "training"
        number = self._steps.index(step) + 1
        together = {k: v for each in self._metrics.values() for k, v in each.items()}
        self._metrics = {}  # before anything may raise: all sets may be evaluated again
        if args.process_index == 0:
            self._send(self._report(number, state, together))
        answer = self._ask(number)
        self._reported.add(step)
        self._pausing = answer.decision == "pause"
        if answer.decision == "stop":
            control.should_training_stop = True
        elif self._pausing or answer.save_state or self._saving is not None:
            self._saving = (number, answer.save_best)
            control.should_save = True
            return
        self._saving, control.should_save = None, False
        if answer.save_best:
            self._save_best(args, number, step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the state that HF just saved as whole, and link its weights as the best.

        A trial that pauses, or whose node is draining, then leaves its group.
        """
        if self._saving is None:
            return
        if self._pausing or state.global_step == self._signals.save_at:
            self._signals.left_by = "paused" if self._pausing else "preempted"
            control.should_training_stop = True
        number, is_best = self._saving
        self._saving = None
        self._signals.alive()
        saved = self._place() / state_name(state.global_step)
        if args.process_index != 0:
            upload_own_file(self._folder, saved / f"rng_state_{args.process_index}.pth")
        if dist.is_initialized():
            dist.barrier()  # every rank has written its generator file
        if args.process_index != 0:
            return
        if is_best:
            best = self._place() / best_name(state.global_step)
            link_best(saved, best)
            self._finish(best, number, "best", state.global_step)
        self._finish(saved, number, "state", state.global_step)

    def _place(self) -> Path:
        return self._folder.checkpoints / self._trial

    def _report(self, number: int, state: TrainerState, metrics: Mapping[str, float]) -> Report:
        numbers = {
            name: float(value)
            for name, value in metrics.items()
            if name != "epoch" and isinstance(value, int | float)
        }
        entries, self._log_entries = tuple(self._log_entries), []
        return Report(
            trial=self._trial,
            number=number,
            attempt=self._attempt,
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=float(state.epoch or 0.0),
            metrics=numbers,
            eval_rows=self._eval_rows(),
            train_s=time.monotonic() - self._started,
            log_entries=entries,
        )

    def _eval_sets(self) -> dict[str, Any]:
        """Return the evaluation sets by name; HF evaluates them one after the other."""
        assert self.trainer is not None
        dataset = self.trainer.eval_dataset
        return dataset if isinstance(dataset, dict) else {"": dataset}

    def _eval_rows(self) -> int | None:
        sets = self._eval_sets().values()
        return sum(map(len, sets)) if all(hasattr(each, "__len__") for each in sets) else None

    def _save_best(self, args: TrainingArguments, number: int, step: int) -> None:
        assert self.trainer is not None
        best = self._place() / best_name(step)
        self.trainer.save_model(str(best))
        if args.process_index == 0:
            self._finish(best, number, "best", step)

    def _finish(self, path: Path, number: int, kind: CheckpointKind, step: int) -> None:
        sha256 = finish_checkpoint(path, trial=self._trial, number=number, step=step)
        upload_checkpoint(self._folder, path)
        self._announce(
            CheckpointSaved(
                trial=self._trial,
                number=number,
                kind=kind,
                path=str(path.relative_to(self._folder.path)),
                sha256=sha256,
            )
        )


def _set_of(metrics: Mapping[str, float], sets: Mapping[str, Any]) -> str:
    """Return the name of the evaluation set that metrics like `eval_NAME_loss` are of."""
    longest_first = sorted(sets, key=len, reverse=True)
    of = (name for name in longest_first if any(m.startswith(f"eval_{name}_") for m in metrics))
    return next(of, "")
