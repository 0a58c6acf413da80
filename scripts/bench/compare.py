"""A sweep against `Trainer.hyperparameter_search(backend="ray")`: python scripts/bench/compare.py

Both train the same 8 learning rates with the same tiny model, rows and evaluations, two trials at a
time, without early stopping. Each runs in its own process, timed from start to end.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

from sweeps import SearchSpace, SweepConfig
from sweeps.builders.text_classification import TextClassification
from sweeps.space.loading import load_space

RATES = [1e-5 * 1.38**i for i in range(8)]
EPOCHS, ROWS, SEED = 2, 32, 17


def tiny_space() -> tuple[SearchSpace, TextClassification]:
    space = load_space("bert_yelp").space
    builder = space.build_trainer
    assert isinstance(builder, TextClassification)
    return space, builder.tiny()


def sweep() -> None:
    """Run the 8 trials as a sweep, with MLflow and checkpoints."""
    import sweeps

    space, builder = tiny_space()
    space = replace(
        space,
        build_trainer=builder,
        tuned={"learning_rate": space.tuned["learning_rate"]},
        fixed={"num_train_epochs": EPOCHS, "per_device_train_batch_size": ROWS, "seed": SEED},
        first_params=[{"learning_rate": rate} for rate in RATES],
    )
    with tempfile.TemporaryDirectory() as folder:
        config = SweepConfig(
            num_trials=len(RATES), max_concurrent=2, scheduler="fifo", storage=folder
        )
        sweeps.run(space, config)


def search() -> None:
    """Run the 8 trials with HF's own search."""
    from ray import tune
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    os.environ["RAY_ADDRESS"] = "local"  # as the sweep does: ignore any Ray that is already running
    _, builder = tiny_space()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=ROWS,
            seed=SEED,
            eval_strategy="steps",
            eval_steps=1 / 8,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        built = builder(args, data=builder.prepare())
        Trainer(
            model_init=lambda: AutoModelForSequenceClassification.from_pretrained(
                builder.model, num_labels=5
            ),
            args=args,
            train_dataset=built.train_dataset,
            eval_dataset=built.eval_dataset,
            data_collator=built.data_collator,
            compute_metrics=built.compute_metrics,
            preprocess_logits_for_metrics=built.preprocess_logits_for_metrics,
        ).hyperparameter_search(
            hp_space=lambda _: {"learning_rate": tune.grid_search(RATES)},
            compute_objective=lambda metrics: metrics["eval_accuracy"],
            direction="maximize",
            backend="ray",
            n_trials=1,
            resources_per_trial={"cpu": 1},
            storage_path=folder,
        )


def main() -> None:
    if len(sys.argv) == 2:
        {"sweep": sweep, "search": search}[sys.argv[1]]()
        return
    for name in ("sweep", "search"):
        start = time.monotonic()
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True)
        took = time.monotonic() - start
        print(f"{name:8} {took:6.1f} s" if done.returncode == 0 else done.stderr[-2000:])


if __name__ == "__main__":
    main()
