"""An ordinary Hugging Face script, and one function around it."""

import numpy as np
from datasets import load_dataset
from ray import tune
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from sweeps import SearchSpace


def build(args: TrainingArguments, *, model: str, dataset: str, max_tokens: int = 128) -> Trainer:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = load_dataset(dataset).map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=max_tokens),
        batched=True,
    )
    network = AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=rows["train"].features["label"].num_classes
    )
    return Trainer(
        model=network,
        args=args,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda p: {"accuracy": np.mean(p.predictions.argmax(-1) == p.label_ids)},
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-4), "max_tokens": tune.choice([64, 128])},
    fixed={
        "model": "distilbert/distilbert-base-uncased",
        "dataset": "cornell-movie-review-data/rotten_tomatoes",
        "num_train_epochs": 2,
    },
)
