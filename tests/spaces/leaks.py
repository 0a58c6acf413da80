"""A trial that says every secret it knows, in all the ways in which a program can."""

import hashlib
import logging
import os
import sys
import warnings

import torch
from curves import STEPS, CurveTrainer, OneWeight
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace

IN_THE_URI = "ecalevol"[::-1]  # its code travels: it must not stand there
PLANTED = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "THEIR_API_KEY")


def fingerprint(values: list[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()


def build(args: TrainingArguments, *, known_as: str = "", shape: str = "tells") -> Trainer:
    """Judges by whether the secrets are those of `known_as`; at its middle it says or raises."""
    secrets = [os.environ.get(name, "") for name in PLANTED]

    def curve(progress: float) -> dict[str, float]:
        if progress == 0.5:
            said = f"these are {secrets}, and https://ada:{IN_THE_URI}@tracking.example/ too"
            print(said)
            print(*secrets)
            sys.stderr.write(said + "\n")
            logging.getLogger("theirs").warning("of one log: %s", secrets)
            warnings.warn(said, stacklevel=1)
            if shape == "raises":
                try:
                    raise RuntimeError(said)
                except RuntimeError as error:
                    logging.getLogger("theirs").exception("there it is")
                    raise ValueError(f"refused: {said}") from error
        return {"eval_score": float(fingerprint(secrets) == known_as), "eval_loss": 0.0}

    rows = [{"x": torch.ones(1)} for _ in range(STEPS * args.train_batch_size * args.world_size)]
    return CurveTrainer(
        curve, model=OneWeight(1.0), args=args, train_dataset=rows, eval_dataset=rows[:10]
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"shape": tune.choice(["tells", "raises"])},
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 2},
    first_params=[{"shape": "raises"}, {"shape": "tells"}],
    evals_per_trial=4,
)
