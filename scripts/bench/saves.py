"""Measures what a save costs a trial: `python scripts/bench/saves.py [--states] [--large]`

Trains a BERT of 400 MB of weights, most of them embeddings, in this process, without Ray, and saves
its best weights three times below `--folder` (default: the folder of temporary files). Of each save
it prints how long training paused, and how long it took until the checkpoint was complete. With
`--states`, it saves complete states with AdamW's moments, three times as large. With `--large`, the
BERT has 1.1 billion weights in 21 layers, 4.5 GB.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from sweeps import SearchSpace
from sweeps.records.events import CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.space.arguments import Devices
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.signals import Signals
from sweeps.workers.training import train

SAVES = (2, 4, 6)
"""Numbers of the reports whose weights are saved, each after the previous save is complete."""
STEPS = 8
"""Optimizer steps, one for each report."""

SMALL = {"vocab_size": 120_000, "num_hidden_layers": 1}
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 16,
    "num_hidden_layers": 21,
}

size = SMALL
states = False
are_whole = threading.Semaphore(1)
decided: dict[int, float] = {}
"""When the decision on each report was made."""
went_on: dict[int, float] = {}
"""When the first step after each report began."""
whole: dict[int, float] = {}
"""When the checkpoint of each report was complete."""
shares: dict[int, float] = {}
"""The share of each save during which training paused, once it has been printed."""


class Clock(TrainerCallback):
    def on_step_begin(self, args, state, control, **_) -> None:
        went_on[state.global_step] = time.perf_counter()


def build(args: TrainingArguments) -> Trainer:
    with torch.device(args.device):
        model = BertForSequenceClassification(BertConfig(**size))
    row = {"input_ids": [1, 2, 3, 4], "attention_mask": [1, 1, 1, 1], "labels": 1}
    rows = Dataset.from_list([row] * STEPS)
    return Trainer(
        model, args, train_dataset=rows, eval_dataset=rows.select([0]), callbacks=[Clock()]
    )


def ask(number: int) -> Reply:
    if number in SAVES:
        are_whole.acquire()
        show()
    decided[number] = time.perf_counter()
    saves = number in SAVES
    return Reply("continue", save_best=saves and not states, save_state=saves and states)


def announce(saved: CheckpointSaved) -> None:
    whole[saved.number] = time.perf_counter()
    are_whole.release()


def show() -> None:
    """Print the saves that are complete and have not been printed."""
    for number in sorted(whole.keys() - shares.keys()):
        still, took = went_on[number] - decided[number], whole[number] - decided[number]
        shares[number] = still / took
        words = f"training paused for {still:.2f} s of the {took:.2f} s that the save took"
        print(words, flush=True)


def main() -> None:
    global size, states
    parser = argparse.ArgumentParser()
    parser.add_argument("--states", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    size, states = (LARGE if given.large else SMALL), given.states
    gpu = torch.cuda.is_available()
    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={},
        fixed={
            "max_steps": STEPS,
            "total_train_batch_size": 1,
            "optim": "adamw_torch" if states else "sgd",
        },
        evals_per_trial=STEPS,
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        train(
            space,
            Job(trial="t001", attempt=1, params={}, seed=0, checkpoint=None),
            devices=Devices(workers=1, gpu=gpu, bf16=False),
            folder=SweepFolder(Path(place)),
            link=Link(
                report=lambda _: None, answer=ask, announce=announce, name_step=lambda _: None
            ),
            signals=Signals(),
            fits=lambda: True,
        )
    show()
    median = statistics.median(shares.values())
    print(f"median share: {median:.2f}; load {os.getloadavg()[0]:.0f}")


if __name__ == "__main__":
    main()
