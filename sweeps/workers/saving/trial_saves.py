"""What a trial saves, from HF's save to a complete checkpoint, and how a state is taken up again.

Runs in a worker, on every rank. It must not know why something is saved.

HF saves on all ranks at once, but what it saves stays in host memory if possible. Training then
continues while `snapshots` completes it. What HF does not save of a trial is written to its state
here, and restored from there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch.distributed as dist
from transformers import Trainer, TrainerControl

from sweeps.records.checkpoints import best_name, state_name
from sweeps.records.events import CheckpointKind, CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import upload_own_file
from sweeps.workers import loss_scale
from sweeps.workers.deepspeed_trials import own_files
from sweeps.workers.messages import LeftBy
from sweeps.workers.saving import unlogged_loss
from sweeps.workers.saving.complete_snapshot import complete_snapshot
from sweeps.workers.saving.host_copies import HostCopies, Unwritten
from sweeps.workers.saving.renamed_weights import load_renamed
from sweeps.workers.saving.sharded_states import has_parts, load_parts, saves_parts
from sweeps.workers.saving.snapshots import Snapshot, Snapshots
from sweeps.workers.signals import Signals


@dataclass(frozen=True, kw_only=True)
class _DueState:
    """A state that HF will save at the end of this step."""

    number: int
    """Number of the latest report."""
    is_best: bool
    """Whether its weights are also saved as the best ones."""
    in_parts: bool
    """Whether each rank saves its own part."""
    leaves: LeftBy | None
    """Why the trial leaves its group once the state is saved; None: it trains on."""


class TrialSaves:
    """The states and the best models that one trial saves, and the state that it resumes.

    A context to exit after the training: everything that was saved is then complete.

    Args:
        trial: Trial id.
        folder: The sweep's folder.
        announce: Called with rank 0's event for each complete checkpoint, in a separate thread.
        signals: Told when the main thread saves or waits, and why the trial leaves its group.
    """

    def __init__(
        self,
        trial: str,
        folder: SweepFolder,
        announce: Callable[[CheckpointSaved], None],
        signals: Signals,
    ) -> None:
        self._folder = folder
        self._place = folder.checkpoints / trial
        self._signals = signals
        self._trainer: Trainer | None = None
        self._resumed: Path | None = None
        self._copies = copies = HostCopies()
        self._snapshots = Snapshots(
            functools.partial(complete_snapshot, trial, folder, announce, signals, copies),
            copies.drop,
            signals,
        )
        self._open = ExitStack()
        self._due: _DueState | None = None
        self._unwritten = Unwritten()
        """What of the state that HF has just saved is not written yet."""

    def __enter__(self) -> Self:
        self._open.enter_context(self._copies)  # needed until the last snapshot is complete
        self._open.enter_context(self._snapshots)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def attach(self, trainer: Trainer, state: Path | None) -> None:
        """Take over what the trainer saves.

        Args:
            trainer: The trainer.
            state: The saved state that it resumes, if any.
        """
        self._trainer = trainer
        self._resumed = state
        if state is not None and has_parts(state):
            load_parts(trainer)
        # No public method saves a state (transformers 5.17 to 5.23).
        self._save = save = trainer._save_checkpoint
        ours = functools.partial(self._save_state)  # unlike a method, it takes attributes
        trainer._save_checkpoint = functools.wraps(save)(ours)

    def detach(self) -> None:
        """Drop the trainer."""
        self._trainer = None

    def restore(self) -> None:
        """Restore what HF does not of the state that is resumed, once HF has loaded it."""
        if self._resumed is not None:
            assert self._trainer is not None
            load_renamed(self._trainer, self._resumed)
            unlogged_loss.restore(self._trainer, self._resumed)
            loss_scale.restore(self._trainer, self._resumed)

    def check(self) -> None:
        """Raise the error of a checkpoint that could not be completed."""
        self._snapshots.check()

    @property
    def state_is_due(self) -> bool:
        """Whether HF will save a state at the end of this step."""
        return self._due is not None

    def request_state(
        self, control: TrainerControl, number: int, *, is_best: bool, leaves: LeftBy | None
    ) -> None:
        """Make HF save a complete state once the callbacks of this step have run.

        Args:
            control: HF's control, as the callback received it.
            number: Number of the latest report.
            is_best: Whether to save its weights as the best ones, too.
            leaves: Why the trial then leaves its group; None: it trains on.
        """
        assert self._trainer is not None
        in_parts = saves_parts(self._trainer, self._save)
        if is_best and in_parts:
            self.save_best(number)  # the parts are no model that can be exported
            is_best = False
        with self._together():
            self._snapshots.make_room({"best", "state"} if is_best else {"state"})
        self._due = _DueState(number=number, is_best=is_best, in_parts=in_parts, leaves=leaves)
        control.should_save = True

    def withdraw_state(self, control: TrainerControl) -> None:
        """Save no state at this step, whether or not it was requested."""
        self._due, control.should_save = None, False

    def save_best(self, number: int) -> None:
        """Save the weights as the best ones, at the report with this number."""
        trainer = self._trainer
        assert trainer is not None
        step = trainer.state.global_step
        best = self._place / best_name(step)
        with self._together():
            self._snapshots.make_room({"best"})
            unwritten = self._copies.save_model(trainer, best)
        if trainer.args.process_index == 0:
            self._snapshots.put(
                Snapshot(number=number, step=step, paths={"best": best}, unwritten=unwritten)
            )

    @contextmanager
    def _together(self) -> Iterator[None]:
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
        trainer, due = self._trainer, self._due
        assert trainer is not None
        with self._signals.save():
            if due is None or (due.leaves is not None and not due.in_parts):
                self._save(*given, **named)
            else:
                save = self._copies.save_part if due.in_parts else self._copies.save_state
                place = self._place / state_name(trainer.state.global_step)
                self._unwritten = save(trainer, place, self._save, *given, **named)

    def queue_state(self, control: TrainerControl) -> None:
        """Queue the state that HF has just saved for completion, and its model if it is the best.

        A trial that leaves its group then ends its training.
        """
        trainer, due = self._trainer, self._due
        if due is None:
            return
        assert trainer is not None
        if due.leaves is not None:
            self._signals.left_by = due.leaves
            control.should_training_stop = True
        self._due = None
        self._signals.alive()
        step, rank = trainer.state.global_step, trainer.args.process_index
        saved = self._place / state_name(step)
        loss_scale.save(trainer, saved)
        unlogged = unlogged_loss.save(trainer, saved)
        with self._together():
            if rank != 0:
                rng = saved / f"rng_state_{rank}.pth"
                for own in (rng, unlogged, *own_files(saved, rank)):
                    upload_own_file(self._folder, own)
        if rank != 0 and not due.in_parts:
            return
        paths: dict[CheckpointKind, Path] = {"state": saved}
        if due.is_best:
            paths = {"best": self._place / best_name(step), **paths}
        unwritten, self._unwritten = self._unwritten, Unwritten()
        self._snapshots.put(
            Snapshot(
                number=due.number,
                step=step,
                paths=paths,
                unwritten=unwritten,
                in_parts=due.in_parts,
            )
        )
