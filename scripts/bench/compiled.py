"""Compiled trials against `Trainer.hyperparameter_search`: python scripts/bench/compiled.py

Both train the same 6 learning rates with `torch_compile=True`, one trial at a time: a model of
BERT-base size with random weights on generated rows of 128 tokens, on a GPU if there is one. Each
runs in its own process, timed from start to end. Prints the seconds of each trial inside `train()`,
which include its compilation. `--small` takes a small model and 2 trials. `--ways sweep` runs only
the sweep, `--ways search` only the other.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from bert_base import make_inputs
from timeline import trains
from transformers import BertConfig, TrainerCallback, TrainingArguments
from ways import searching_trainer

import sweeps
from sweeps import SearchSpace, SweepConfig
from sweeps.builders.text_classification import TextClassification
from sweeps.space.loading import load_space

SMALL = "--small" in sys.argv
RATES = [1e-5 * 1.5**i for i in range(2 if SMALL else 6)]
SEED, BATCH, EVALUATIONS = 17, 32, 2
TRAIN_ROWS, ROWS = (128, 64) if SMALL else (2048, 512)
SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2} if SMALL else {}
GPU = torch.cuda.is_available()


def space_of(inputs: Path) -> tuple[SearchSpace, TextClassification]:
    space = load_space("bert_yelp").space
    builder = space.build_trainer
    assert isinstance(builder, TextClassification)
    model, data = str(inputs / "model"), str(inputs / "data")
    return space, replace(
        builder, model=model, dataset=data, train_rows=TRAIN_ROWS, eval_rows=ROWS, max_tokens=128
    )


def sweep(inputs: Path) -> None:
    """Run the trials as a sweep."""
    space, builder = space_of(inputs)
    space = replace(
        space,
        build_trainer=builder,
        tuned={"learning_rate": space.tuned["learning_rate"]},
        fixed={
            "num_train_epochs": 1,
            "per_device_train_batch_size": BATCH,
            "seed": SEED,
            "torch_compile": True,
        },
        first_params=[{"learning_rate": rate} for rate in RATES],
        evals_per_trial=EVALUATIONS,
    )
    config = SweepConfig(
        num_trials=len(RATES),
        max_concurrent=1,
        trials_per_gpu=1,
        scheduler="fifo",
        trackers=(),
        storage=str(inputs / "sweeps"),
    )
    sweeps.run(space, config)
    (log,) = (inputs / "sweeps").glob("*/events.jsonl")
    spans = [span for group in trains(log)[2].values() for span in group]
    for begin, end in sorted(spans):
        print(f"trial: {begin} {end}")


class Clock(TrainerCallback):
    """Writes when `train()` began, according to HF, and when it ended."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.begun = 0.0

    def on_train_begin(self, *_, **__) -> None:
        self.begun = time.time()

    def on_train_end(self, *_, **__) -> None:
        with self.file.open("a") as file:
            file.write(f"trial: {self.begun} {time.time()}\n")


def search(inputs: Path) -> None:
    """Run the trials with HF's own search."""
    from ray import tune

    os.environ["RAY_ADDRESS"] = "local"  # as the sweep does: ignore any Ray that is already running
    _, builder = space_of(inputs)
    args = TrainingArguments(
        output_dir=str(inputs / "search"),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        seed=SEED,
        torch_compile=True,
        bf16=GPU,
        eval_strategy="steps",
        eval_steps=1 / EVALUATIONS,
        save_strategy="no",
        report_to="none",
        use_cpu=not GPU,
        disable_tqdm=True,
        **({"dataloader_num_workers": 2, "dataloader_persistent_workers": True} if GPU else {}),
    )
    times = inputs / "times"
    searching_trainer(builder, args, Clock(times)).hyperparameter_search(
        hp_space=lambda _: {"learning_rate": tune.grid_search(RATES)},
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        direction="maximize",
        backend="ray",
        n_trials=1,
        resources_per_trial={"cpu": min(8, os.cpu_count() or 1) if GPU else 1, "gpu": int(GPU)},
        storage_path=str(inputs / "ray"),
    )
    print(times.read_text())


WAYS = {"sweep": sweep, "search": search}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="try this script")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--run", help="what one process runs", choices=list(WAYS))
    parser.add_argument("--inputs", type=Path)
    given = parser.parse_args()
    if given.run:
        WAYS[given.run](given.inputs)
        return
    for name in given.ways:
        with tempfile.TemporaryDirectory() as folder:
            inputs = Path(folder)
            make_inputs(inputs, TRAIN_ROWS, BertConfig(num_labels=5, **SIZE))
            caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled", "TRITON_CACHE_DIR": folder}
            begun = time.time()
            done = subprocess.run(
                [sys.executable, *sys.argv, "--run", name, "--inputs", folder],
                capture_output=True,
                text=True,
                env={**os.environ, **caches},
            )
            took = time.time() - begun
        if done.returncode != 0:
            print(done.stdout[-3000:], done.stderr[-3000:])
            continue
        lines = [line.split()[1:] for line in done.stdout.splitlines() if line[:7] == "trial: "]
        spans = sorted((float(begin), float(end)) for begin, end in lines)
        each = ", ".join(f"{end - begin:.1f}" for begin, end in spans)
        print(f"{name}: {len(spans)} trials in {took:.1f} s from start to end of the process")
        print(f"    first train() after {spans[0][0] - begun:.1f} s; each train() {each} s")
        print(f"    from the first train() to the last end {spans[-1][1] - spans[0][0]:.1f} s")


if __name__ == "__main__":
    main()
