"""Image classification: transforms on the fly, which need the columns that HF would remove."""

import numpy as np
import torch
from datasets import Array3D, ClassLabel, Dataset, Features
from ray import tune
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from sweeps import SearchSpace


def pictures(count, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    images = draw.random((count, 3, 8, 8)) * 0.2 + labels[:, None, None, None] * 0.5
    features = Features(
        image=Array3D((3, 8, 8), "float32"), label=ClassLabel(names=["dark", "bright"])
    )
    rows = {"image": images.astype("float32"), "label": labels}
    return Dataset.from_dict(rows, features=features)


def main(args: TrainingArguments, *, layers=1, train_val_split=0.25, flip=True):
    data = pictures(64, seed=0).train_test_split(train_val_split, seed=0)
    names = data["train"].features["label"].names

    def train_transforms(batch):
        images = torch.as_tensor(np.array(batch["image"], dtype="float32"))
        turned = torch.rand(len(images)) < (0.5 if flip else 0.0)
        images[turned] = images[turned].flip(-1)
        return {"pixel_values": list(images - 0.5), "label": batch["label"]}

    def val_transforms(batch):
        images = torch.as_tensor(np.array(batch["image"], dtype="float32"))
        return {"pixel_values": list(images - 0.5), "label": batch["label"]}

    data["train"].set_transform(train_transforms)
    data["test"].set_transform(val_transforms)

    def collate(examples):
        return {
            "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
            "labels": torch.tensor([example["label"] for example in examples]),
        }

    network = ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=4,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
    )
    return Trainer(
        model=network,
        args=args,
        train_dataset=data["train"] if args.do_train else None,
        eval_dataset=data["test"] if args.do_eval else None,
        compute_metrics=lambda p: {"accuracy": np.mean(p.predictions.argmax(1) == p.label_ids)},
        data_collator=collate,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-4, 1e-2), "flip": tune.choice([True, False])},
    fixed={
        "max_steps": 4,
        "remove_unused_columns": False,
        "gradient_accumulation_steps": 2,
    },
    first_params=[{"learning_rate": 1e-2, "flip": True}],
    evals_per_trial=2,
)
