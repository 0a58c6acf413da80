"""Causal language modelling: texts joined to blocks, accuracy from the best tokens alone."""

import math
from itertools import chain

import places
from datasets import load_dataset
from ray import tune
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from sweeps import SearchSpace


class Perplexity(Trainer):
    """The script printed it after the training."""

    def evaluate(self, *args, metric_key_prefix="eval", **kwargs):
        metrics = super().evaluate(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        try:
            perplexity = math.exp(metrics[f"{metric_key_prefix}_loss"])
        except OverflowError:
            perplexity = float("inf")
        metrics["eval_perplexity"] = perplexity
        return metrics


def main(
    args: TrainingArguments,
    *,
    tokenizer_name=places.CAUSAL,
    dataset=places.TEXTS,
    block_size=16,
    config_overrides="n_embd=16,n_layer=1,n_head=2",
):
    raw = load_dataset(dataset)
    raw = {name: raw[name].select(range(n)) for name, n in (("train", 64), ("validation", 32))}
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    config = CONFIG_MAPPING["gpt2"]()
    config.update_from_string(config_overrides)
    network = AutoModelForCausalLM.from_config(config)
    if len(tokenizer) != network.get_input_embeddings().weight.shape[0]:
        network.resize_token_embeddings(len(tokenizer))

    def group_texts(examples):
        joined = list(chain(*tokenizer(examples["text"])["input_ids"]))
        total = len(joined) // block_size * block_size
        blocks = [joined[i : i + block_size] for i in range(0, total, block_size)]
        return {"input_ids": blocks, "labels": [list(block) for block in blocks]}

    columns = raw["train"].column_names
    with args.main_process_first(desc="grouping texts together"):
        lm = {
            name: rows.map(group_texts, batched=True, remove_columns=columns)
            for name, rows in raw.items()
        }

    def preprocess_logits_for_metrics(logits, labels):
        logits = logits[0] if isinstance(logits, tuple) else logits
        return logits.argmax(dim=-1)

    def compute_metrics(eval_preds):
        preds, labels = eval_preds
        return {"accuracy": (preds[:, :-1] == labels[:, 1:]).mean()}

    return Perplexity(
        model=network,
        args=args,
        train_dataset=lm["train"],
        eval_dataset=lm["validation"],
        processing_class=tokenizer,
        data_collator=default_data_collator,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_perplexity",
    mode="min",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-2), "block_size": tune.choice([8, 16])},
    fixed={"max_steps": 4, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2, "block_size": 16}],
    evals_per_trial=2,
)
