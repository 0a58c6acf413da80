"""Text classification: splits by `do_train` and `do_eval`, a metric loaded at the top."""

import logging
from pathlib import Path

import evaluate
import numpy as np
import places
from datasets import load_dataset
from ray import tune
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from sweeps import SearchSpace

logger = logging.getLogger(__name__)
metric = evaluate.load(str(Path(__file__).parent / "share"))


def main(
    args: TrainingArguments,
    *,
    model=places.MODEL,
    dataset=places.TEXTS,
    max_seq_length=32,
    pad_to_max_length=False,
    max_train_samples=64,
    max_eval_samples=32,
):
    logger.warning("device: %s, 16 bits: %s", args.device, args.fp16 or args.bf16)
    set_seed(args.seed)
    raw = load_dataset(dataset)
    names = raw["train"].features["label"].names
    config = AutoConfig.from_pretrained(model, num_labels=len(names), finetuning_task="stars")
    tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True)
    network = AutoModelForSequenceClassification.from_pretrained(
        model, config=config, ignore_mismatched_sizes=True
    )
    network.config.label2id = {name: i for i, name in enumerate(names)}
    network.config.id2label = dict(enumerate(names))

    def preprocess(examples):
        padding = "max_length" if pad_to_max_length else False
        return tokenizer(
            examples["text"], padding=padding, max_length=max_seq_length, truncation=True
        )

    with args.main_process_first(desc="dataset map pre-processing"):
        raw = raw.map(preprocess, batched=True)
    if args.do_train:
        train_dataset = raw["train"].select(range(max_train_samples))
    if args.do_eval:
        eval_dataset = raw["validation"].select(range(max_eval_samples))

    def compute_metrics(p: EvalPrediction):
        preds = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
        result = metric.compute(predictions=np.argmax(preds, axis=1), references=p.label_ids)
        result["combined_score"] = np.mean(list(result.values())).item()
        return result

    if pad_to_max_length:
        data_collator = default_data_collator
    else:
        data_collator = DataCollatorWithPadding(
            tokenizer, pad_to_multiple_of=8 if args.fp16 else None
        )
    return Trainer(
        model=network,
        args=args,
        train_dataset=train_dataset if args.do_train else None,
        eval_dataset=eval_dataset if args.do_eval else None,
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=data_collator,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_combined_score",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-5, 1e-3),
        "pad_to_max_length": tune.choice([True, False]),
    },
    fixed={"max_steps": 4, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-3, "pad_to_max_length": False}],
    evals_per_trial=2,
)
