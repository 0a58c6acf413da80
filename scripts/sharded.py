"""Tries sharded trials on GPUs: `python -m scripts.sharded --workers 2 --others 4`.

`--by` says what shards them: fsdp (FSDP2), or zero2 or zero3 (DeepSpeed, which must be installed).

Trains a Llama from random weights (`--size`: 7b, 1b, 100m or tiny) on worker groups of this
machine, as `sweeps` does, without Ray, and prints a line for each of these; the exit status is 1 if
one fails:

- sharded: each rank has only its part of the weights; with zero2, of the optimizer's state
- resumed: a trial whose process is killed after its state was saved continues from that state in
  another group, with the same numbers and weights
- on others: the same with `--others` workers, where the loss is the same within 1 %. DeepSpeed
  cannot do so; there, the trial must end with the error that says so
- export: plain transformers loads the best weights
- plain: a trial that is not sharded, after a sharded one in the same group, gives the same numbers
  and weights as in a new group, or demands new processes, which `sweeps` then gives it
- memory: after `--trials` trials in one group no more GPU memory is in use than after the second
- speed: median step and peak memory compared with plain `torchrun`, at most 3 % slower
- times: the gap between two trials, and how long training pauses for a state, beside plain HF

On CPUs, HF accepts `fsdp` but trains with plain DDP. With `--cpu`, accelerate is made to shard
there, too; memory and speed are then not checked. DeepSpeed needs `DS_ACCELERATOR=cpu` for that.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, TrainingArguments

from scripts.field_trials import Group, Outcome
from scripts.sharded_trials import (
    BATCH,
    RATE,
    REPORTS,
    SHARDED,
    SIZES,
    STEPS,
    Llama,
    Run,
    shard_on_cpus,
    states,
    work,
)
from sweeps.records.folder import SweepFolder

SLOWER = 1.03
"""Maximum duration of a step, as a multiple of `torchrun`'s."""
EXACT = {"full_determinism": True}


class Tests:
    """The tests, in the order in which they run; each yields (name, whether it passed, text)."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given = given
        self.gpu = not given.cpu
        self.by: str = given.by
        self.folder = folder
        self.sweep = SweepFolder(folder / "fields")
        self.groups: list[Group] = []

    def group(self, workers: int) -> Group:
        for group in self.groups:
            group.end()
        self.groups = [Group(workers, self.gpu, self.folder, work)]
        return self.groups[0]

    def builder(self, notes: str, size: str | None = None) -> Llama:
        place = self.folder / notes
        place.mkdir(exist_ok=True)
        return Llama(size=size or self.given.size, notes=str(place))

    def measured(self, notes: str) -> list[list[dict[str, Any]]]:
        """Return the lines of each rank."""
        files = sorted((self.folder / notes).glob("rank*.jsonl"))
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    def run(self) -> Iterator[tuple[str, bool | None, str]]:
        workers = self.given.workers
        exact = EXACT if self.gpu else {}
        alike: dict[str, Any] = {"by": self.by, "values": exact}
        group = self.group(workers)
        whole = group.run(Run(name="whole", builder=self.builder("whole"), **alike))
        if whole.error:
            yield "run", False, whole.error
            return
        yield "run", True, f"{workers} workers, eval_loss {self.loss(whole):.4f}"
        yield self.sharded()
        unsharded = Run(name="after", builder=self.builder("after", "tiny"), values=exact, by=None)
        after = group.run(unsharded) if self.gpu or self.by != "fsdp" else None
        killed = Run(name="killed", builder=self.builder("killed"), killed=True, **alike)
        died = self.group(workers).run(killed)
        (state,) = states(self.sweep, "killed") or [None]
        if state is None:
            yield "resumed", False, f"no state was saved: {died.error}"
            return
        rest = dataclasses.replace(
            killed, killed=False, checkpoint=str(state.relative_to(self.sweep.path))
        )
        again = self.group(workers).run(rest)
        equal = again.numbers == whole.numbers[1:] and again.weights == whole.weights
        yield "resumed", equal, again.error or f"from {state.name}: equal numbers and weights"
        if self.given.others:
            yield self.on_others(self.group(self.given.others).run(rest), whole)
        yield self.export(whole)
        if after is not None:
            group = self.group(workers)
            yield self.plain(after, group.run(dataclasses.replace(unsharded, name="fresh")))
        yield from self.many()

    @staticmethod
    def plain(after: Outcome, fresh: Outcome) -> tuple[str, bool | None, str]:
        """Judge a trial that is not sharded: after a sharded one, and in a new group."""
        if after.replaced:
            return "plain", True, "demands new processes, since the sharded trial has patched torch"
        equal = after.numbers == fresh.numbers and after.weights == fresh.weights
        words = f"{'equal' if equal else 'other'} numbers and weights in a new group"
        return "plain", equal, after.error or fresh.error or words

    def on_others(self, other: Outcome, whole: Outcome) -> tuple[str, bool | None, str]:
        """Judge the trial that was resumed on another number of workers."""
        if self.by != "fsdp":
            refused = "DeepSpeed cannot resume" in (other.error or "")
            return "on others", refused, other.error or "resumed"
        near = not other.error and abs(self.loss(other) / self.loss(whole) - 1) < 0.01
        words = other.error or f"{self.given.others} workers, eval_loss {self.loss(other):.4f}"
        return "on others", near, words

    @staticmethod
    def loss(outcome: Outcome) -> float:
        loss: float = outcome.numbers[-1]["metrics"]["eval_loss"]
        return loss

    def sharded(self) -> tuple[str, bool | None, str]:
        last = [lines[-1] for lines in self.measured("whole")]
        everything = last[0]["all_bytes"]
        own = [one["own_bytes"] for one in last]
        fair = max(own) <= 1.05 * everything / len(own) and len(own) == self.given.workers
        words = ", ".join(f"{one / 1e6:,.1f}" for one in own)
        return "sharded", fair, f"{words} of {everything / 1e6:,.1f} MB"

    def export(self, whole: Outcome) -> tuple[str, bool | None, str]:
        assert whole.best is not None
        begun = time.monotonic()
        model, info = AutoModelForCausalLM.from_pretrained(
            self.sweep.path / whole.best, output_loading_info=True
        )
        off = [
            name for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[name]
        ]
        words = f"{model.num_parameters() / 1e9:.2f} billion weights, {off or 'all'} loaded"
        return "export", not off, f"{words} in {time.monotonic() - begun:.1f} s"

    def many(self) -> Iterator[tuple[str, bool | None, str]]:
        """Run trials one after another in one group, and then the same with torchrun."""
        group, builder = self.group(self.given.workers), self.builder("many")
        for number in range(self.given.trials):
            name = f"many{number:02}"
            ended = group.run(Run(name=name, builder=builder, by=self.by, saves=False))
            if ended.error:
                yield "memory", False, f"trial {number + 1}: {ended.error}"
                return
        lines = self.measured("many")[0]
        before = [one.get("before", 0) for one in lines]
        flat = before[-1] <= 1.01 * before[min(1, len(before) - 1)]
        words = f"{before[0] / 1e9:.3f} GB before the first of {len(before)} trials"
        yield (
            "memory",
            flat if self.gpu else None,
            f"{words}, {before[-1] / 1e9:.3f} before the last",
        )
        group.end()
        plain = self.builder("plain")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(self.given.workers), "-m", "scripts.sharded"),
                *("--plain", plain.notes, "--size", self.given.size, "--by", self.by),
                *(["--cpu"] if self.given.cpu else []),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            yield "speed", False, done.stderr.strip()[-500:]
            return
        (alone,) = self.measured("plain")[0]
        ours = statistics.median(one["step_s"] for one in lines)
        words = f"{1000 * ours:.0f} ms a step, {1000 * alone['step_s']:.0f} by torchrun; peak"
        words += f" {lines[-1]['peak'] / 1e9:.2f} and {alone['peak'] / 1e9:.2f} GB"
        yield "speed", ours <= SLOWER * alone["step_s"] if self.gpu else None, words
        at = STEPS // REPORTS  # a state is saved after this step, along with an evaluation
        pauses = self.measured("whole")[0][-1]["pauses_s"]
        words = f"training pauses {pauses[at - 1] - pauses[2 * at - 1]:.2f} s for a state"
        yield "times", None, f"{words}, {alone['pauses_s'][at - 1]:.2f} s with plain HF"
        gaps = [b["first_step"] - a["ended"] for a, b in itertools.pairwise(lines)]
        if gaps:
            yield "times", None, f"gap {statistics.median(gaps):.2f} s from one trial to the next"


def plain(given: argparse.Namespace) -> None:
    """Train with plain HF, under torchrun."""
    if given.by == "fsdp" and given.cpu:
        shard_on_cpus()
        torch.distributed.init_process_group("gloo")
    workers = int(os.environ["WORLD_SIZE"])
    args = TrainingArguments(
        output_dir=f"{given.plain}/out",
        max_steps=STEPS,
        per_device_train_batch_size=BATCH // workers,
        learning_rate=RATE,
        logging_steps=1,
        **SHARDED[given.by],
        bf16=not given.cpu,
        use_cpu=given.cpu,
        save_steps=STEPS // REPORTS,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )
    Llama(size=given.size, notes=given.plain)(args).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--others", type=int, help="workers that resume the trial, too")
    parser.add_argument("--size", choices=SIZES, default="1b")
    parser.add_argument("--by", choices=SHARDED, default="fsdp", help="what shards the trials")
    parser.add_argument("--trials", type=int, default=30, help="in one group, for the memory")
    parser.add_argument("--cpu", action="store_true", help="try this script without GPUs")
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        plain(given)
        return
    most = max(given.workers, given.others or 0)
    if not given.cpu and torch.cuda.device_count() < most:
        sys.exit(f"{most} workers need {most} GPUs; {torch.cuda.device_count()} are here")
    folder, failed = Path(tempfile.mkdtemp(prefix="sharded-")), False
    tests = Tests(given, folder)
    try:
        for name, holds, words in tests.run():
            failed |= holds is False
            verdict = {True: "ok", False: "FAILS", None: "not judged"}[holds]
            print(f"{name:10} {verdict:10} {words}", flush=True)
    finally:
        for group in tests.groups:
            group.end()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
