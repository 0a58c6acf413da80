"""The `train_func` of Ray's guide to Hugging Face, as a search space."""

import numpy as np
from datasets import load_dataset
from ray import tune
from ray.train.huggingface.transformers import RayTrainReportCallback, prepare_trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer

from sweeps import SearchSpace


def train_func(args, *, model="google-bert/bert-base-cased", dataset="Yelp/yelp_review_full"):
    data = load_dataset(dataset, split="train").train_test_split(1000, train_size=1000, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(model)

    def tokenize_function(examples):
        return tokenizer(examples["text"], padding="max_length", truncation=True)

    data = data.map(tokenize_function, batched=True)
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=5)

    def compute_metrics(eval_pred):
        logits, labels = eval_pred
        return {"accuracy": np.mean(np.argmax(logits, axis=-1) == labels)}

    trainer = Trainer(
        model=network,
        args=args,  # was training_args = TrainingArguments(...)
        train_dataset=data["train"],
        eval_dataset=data["test"],
        compute_metrics=compute_metrics,
    )
    trainer.add_callback(RayTrainReportCallback())  # may stay: sweeps takes its place
    return prepare_trainer(trainer)  # was followed by trainer.train()


SEARCH_SPACE = SearchSpace(
    build_trainer=train_func,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-4)},
    fixed={"num_train_epochs": 3},
)
