"""One way of running the trials of a workload: python scripts/bench/ways.py WAY WORKLOAD.json

Called by `peers.py`, in a separate process for each way. Peers have the best settings that their
guides recommend: rows prepared once, only the GPUs that a trial needs, bf16, data-loader processes,
no checkpoints, no reports to other tools.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workload import Workload, notes_to

BENCH = Path(__file__).parent
LOCAL = "RAY_ADDRESS"


def ours(load: Workload) -> None:
    """Run a sweep with MLflow, checkpoints and smoke run as usual, but without early stopping."""
    sweep(load)


def ours_one_at_a_time(load: Workload) -> None:
    """Run the same sweep without sharing GPUs."""
    sweep(load, "--trials-per-gpu", "1")


def sweep(load: Workload, *flags: str) -> None:
    """Become `sweeps run`."""
    fields = {
        "model": load.model,
        "dataset": load.dataset,
        "max_tokens": load.max_tokens,
        "train_rows": load.train_rows,
        "eval_rows": load.eval_rows,
        "marks": load.marks,
        "learning_rate": f"choice({list(load.rates)})",
        "num_train_epochs": load.epochs,
        "total_train_batch_size": load.rows_per_step,
        "seed": load.seed,
    }
    words = [f"{name}={value}" for name, value in fields.items() if value is not None]
    words += ["--num-trials", len(load.rates), "--workers-per-trial", load.workers]
    words += ["--scheduler", "fifo", "--searcher", "random", "--storage", f"{load.work}/results"]
    if not load.gpu:
        words += ["--max-concurrent", load.at_once]
    space = str(BENCH / "peers_space.py")
    command = [sys.executable, "-m", "sweeps", "run", space, *map(str, [*words, *flags])]
    os.execv(sys.executable, command)


def guide(load: Workload) -> None:
    """Run as Ray's guide proposes: each Tune trial is a function that fits its own `TorchTrainer`.

    The guide is "Hyperparameter Tuning with Ray Tune" in Ray Train's documentation (ray 2.60).
    """
    import ray
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    load.builder.prepare()  # once: the workers map its files

    def train(config: dict[str, Any]) -> None:
        from ray import train as ray_train
        from ray.train.huggingface.transformers import prepare_trainer
        from transformers import TrainerCallback, set_seed

        class Reports(TrainerCallback):
            def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
                ray_train.report(given["metrics"])

        set_seed(load.seed)
        trainer = load.builder(load.arguments(config["rate"]), data=load.builder.prepare())
        trainer.add_callback(Reports())
        prepare_trainer(trainer).train()

    def drive(config: dict[str, Any]) -> None:
        TorchTrainer(
            train,
            train_loop_config=config,
            scaling_config=ScalingConfig(
                num_workers=load.workers,
                use_gpu=load.gpu,
                resources_per_worker={"CPU": load.cpus, "GPU": int(load.gpu)},
            ),
            run_config=RunConfig(
                name=f"train-{tune.get_context().get_trial_id()}",
                storage_path=load.work,
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    # A CPU for each trial's function, in addition to those of its workers.
    cpus = (os.cpu_count() or 1) + load.at_once
    ray.init(address="local", num_cpus=cpus, log_to_driver=False)
    results = tune.Tuner(
        drive,
        param_space={"rate": tune.grid_search(list(load.rates))},
        tune_config=tune.TuneConfig(
            metric="eval_accuracy", mode="max", max_concurrent_trials=load.at_once
        ),
        run_config=tune.RunConfig(name="tune", storage_path=load.work, verbose=0),
    ).fit()
    ray.shutdown()
    if results.errors:
        raise results.errors[0]


def hps_ray(load: Workload) -> None:
    """Run `Trainer.hyperparameter_search` with Ray."""
    import ray
    from ray import tune

    ray.init(address="local", log_to_driver=False)
    _searching(load).hyperparameter_search(
        hp_space=lambda _: {"learning_rate": tune.grid_search(list(load.rates))},
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        direction="maximize",
        backend="ray",
        n_trials=1,  # of the grid
        resources_per_trial={  # one process, which has several GPUs by DataParallel
            "cpu": load.cpus * load.workers,
            "gpu": load.workers * load.gpu,
        },
        max_concurrent_trials=load.at_once,
        storage_path=load.work,
        verbose=0,
    )
    ray.shutdown()


def hps_optuna(load: Workload) -> None:
    """Run `Trainer.hyperparameter_search` with Optuna: one trial after another in one process."""
    from optuna.pruners import NopPruner
    from optuna.samplers import GridSampler

    def params(trial: Any) -> dict[str, float]:
        return {"learning_rate": trial.suggest_float("learning_rate", 0.0, 1.0)}

    _searching(load).hyperparameter_search(
        hp_space=params,
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        direction="maximize",
        backend="optuna",
        n_trials=len(load.rates),
        sampler=GridSampler({"learning_rate": list(load.rates)}),
        pruner=NopPruner(),  # Optuna's default stops trials after the fifth
    )


def _searching(load: Workload) -> Any:
    notes = notes_to(str(load.marks))
    return searching_trainer(load.builder, load.arguments(load.rates[0]), notes)


def searching_trainer(builder: Any, args: Any, callback: Any) -> Any:
    """Return the trainer of a search, which builds a model for each trial.

    Args:
        builder: A builder of text classifiers.
        args: HF's training arguments.
        callback: Follows the trials.
    """
    from transformers import AutoModelForSequenceClassification, Trainer

    data = builder.prepare()
    built = builder(args, data=data)
    names = len(data.label_names)

    def new_model() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            builder.model, num_labels=names, dtype="float32", ignore_mismatched_sizes=True
        )

    return Trainer(
        model_init=new_model,
        args=args,
        train_dataset=built.train_dataset,
        eval_dataset=built.eval_dataset,
        data_collator=built.data_collator,
        compute_metrics=built.compute_metrics,
        preprocess_logits_for_metrics=built.preprocess_logits_for_metrics,
        callbacks=[callback],
    )


def loop(load: Workload) -> None:
    """Train one trial after another in a plain loop, in one process per group of devices."""
    load.builder.prepare()
    started = []
    for number in range(load.at_once):
        environment = {**os.environ}
        if not load.gpu:
            environment["OMP_NUM_THREADS"] = "1"
        elif load.at_once > 1:
            own = range(number * load.workers, (number + 1) * load.workers)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, own))
        started.append(subprocess.Popen(launched("part", load, str(number)), env=environment))
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit("a process of the loop failed")


def part(load: Workload, number: int) -> None:
    """Train the trials of one process of the loop."""
    from transformers import set_seed

    data = load.builder.prepare()
    for rate in load.rates[number :: load.at_once]:
        set_seed(load.seed)
        load.builder(load.arguments(rate), data=data).train()


def launched(way: str, load: Workload, *words: str) -> list[str]:
    """Return the command of a way, under torchrun if a trial has several workers."""
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(load.workers)]
    file = str(Path(load.work) / "workload.json")
    return [sys.executable, *(run if load.workers > 1 else []), __file__, way, file, *words]


def main(words: Sequence[str]) -> None:
    """Run the trials of a workload in one way, or one part of them."""
    way, file, *rest = words
    load = Workload.read(Path(file))
    os.environ.pop(LOCAL, None)
    if way == "part":
        part(load, int(rest[0]))
    else:
        WAYS[way](load)


WAYS = {
    each.__name__: each for each in (ours, ours_one_at_a_time, guide, hps_ray, hps_optuna, loop)
}

if __name__ == "__main__":
    main(sys.argv[1:])
