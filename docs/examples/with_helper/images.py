"""Tune an image classifier whose data comes from a helper module beside the space."""

import numpy as np
import stripes
from ray import tune
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from sweeps import SearchSpace


def build(args: TrainingArguments, *, layers: int = 2, train_rows: int = 512) -> Trainer:
    config = ViTConfig(
        image_size=16,
        patch_size=4,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_labels=2,
    )
    model = ViTForImageClassification(config)
    return Trainer(
        model=model,
        args=args,
        train_dataset=stripes.images(train_rows, seed=0),
        eval_dataset=stripes.images(200, seed=1),
        compute_metrics=lambda p: {"accuracy": np.mean(p.predictions.argmax(-1) == p.label_ids)},
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-2), "layers": tune.randint(1, 4)},
    fixed={"num_train_epochs": 2, "total_train_batch_size": 16},
    first_params=[{"learning_rate": 1e-3, "layers": 2}],
    evals_per_trial=4,
)
