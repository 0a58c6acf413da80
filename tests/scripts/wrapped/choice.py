"""Multiple choice: each row becomes four, and a collator puts them together again."""

from itertools import chain

import numpy as np
import places
from datasets import load_dataset
from ray import tune
from transformers import (
    AutoModelForMultipleChoice,
    AutoTokenizer,
    DataCollatorForMultipleChoice,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from sweeps import SearchSpace

ENDINGS = ("it was awful", "it was bad", "it was good", "it was great")


def main(args: TrainingArguments, *, model=places.MODEL, dataset=places.TEXTS, pad=False):
    raw = load_dataset(dataset)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForMultipleChoice.from_pretrained(model)

    def preprocess(examples):
        first = list(chain(*[[text] * len(ENDINGS) for text in examples["text"]]))
        second = list(ENDINGS) * len(examples["text"])
        padding = "max_length" if pad else False
        tokenized = tokenizer(first, second, truncation=True, max_length=24, padding=padding)
        n = len(ENDINGS)
        grouped = {k: [v[i : i + n] for i in range(0, len(v), n)] for k, v in tokenized.items()}
        return {**grouped, "label": [min(label, n - 1) for label in examples["label"]]}

    with args.main_process_first(desc="dataset map pre-processing"):
        train, rows = (
            raw[name].select(range(n)).map(preprocess, batched=True)
            for name, n in (("train", 32), ("validation", 16))
        )

    def compute_metrics(eval_predictions):
        predictions, labels = eval_predictions
        best = np.argmax(predictions, axis=1)
        return {"accuracy": (best == labels).astype(np.float32).mean().item()}

    return Trainer(
        model=network,
        args=args,
        train_dataset=train,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=default_data_collator if pad else DataCollatorForMultipleChoice(tokenizer),
        compute_metrics=compute_metrics,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3), "pad": tune.choice([True, False])},
    fixed={"max_steps": 4, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-3, "pad": False}],
    evals_per_trial=2,
)
