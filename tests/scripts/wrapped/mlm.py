"""Masked language modelling, with trainer arguments of its own in a subclass."""

from dataclasses import dataclass, field

import places
from datasets import load_dataset
from ray import tune
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from sweeps import SearchSpace


@dataclass
class MaskingArguments(TrainingArguments):
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to mask."})
    freeze_embeddings: bool = field(default=False, metadata={"help": "Whether they stay."})


def main(args: MaskingArguments, *, model=places.MODEL, dataset=places.TEXTS, line_by_line=True):
    raw = load_dataset(dataset)
    tokenizer = AutoTokenizer.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    network = AutoModelForMaskedLM.from_config(config)
    if args.freeze_embeddings:
        network.get_input_embeddings().requires_grad_(False)

    def tokenize(examples):
        texts = [line for line in examples["text"] if len(line) > 0 and not line.isspace()]
        return tokenizer(texts, truncation=True, max_length=24, return_special_tokens_mask=True)

    columns = raw["train"].column_names
    train, rows = (
        raw[name].select(range(n)).map(tokenize, batched=True, remove_columns=columns)
        for name, n in (("train", 64), ("validation", 32))
    )

    def preprocess_logits_for_metrics(logits, labels):
        return (logits[0] if isinstance(logits, tuple) else logits).argmax(dim=-1)

    def compute_metrics(eval_preds):
        preds, labels = eval_preds
        masked = labels != -100
        return {"accuracy": (preds[masked] == labels[masked]).mean()}

    return Trainer(
        model=network,
        args=args,
        train_dataset=train,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=args.mlm_probability
        ),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_accuracy",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-5, 1e-2),
        "mlm_probability": tune.choice([0.15, 0.3]),
    },
    fixed={"max_steps": 4, "freeze_embeddings": True, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2, "mlm_probability": 0.3}],
    evals_per_trial=2,
)
