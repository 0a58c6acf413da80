"""Question answering with a trainer of its own in a helper module."""

import numpy as np
import places
from datasets import load_dataset
from ray import tune
from trainer_qa import QuestionAnsweringTrainer
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    TrainingArguments,
    default_data_collator,
)

from sweeps import SearchSpace

QUESTION = "is it good"


def main(args: TrainingArguments, *, model=places.MODEL, dataset=places.TEXTS, n_best=3):
    raw = load_dataset(dataset)
    tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True)
    network = AutoModelForQuestionAnswering.from_pretrained(model)

    def prepare_features(examples):
        tokenized = tokenizer(
            [QUESTION] * len(examples["text"]),
            examples["text"],
            truncation="only_second",
            max_length=32,
            padding="max_length",
            return_offsets_mapping=True,
        )
        starts = []
        for i, offsets in enumerate(tokenized["offset_mapping"]):
            context = [j for j, of in enumerate(tokenized.sequence_ids(i)) if of == 1]
            starts.append(context[1])
            tokenized["offset_mapping"][i] = [
                offset if j in context else None for j, offset in enumerate(offsets)
            ]
        tokenized["start_positions"] = starts
        tokenized["end_positions"] = [start + 1 for start in starts]
        return tokenized

    columns = raw["train"].column_names
    train = raw["train"].select(range(64))
    train = train.map(prepare_features, batched=True, remove_columns=columns)
    examples = raw["validation"].select(range(32))
    features = examples.map(prepare_features, batched=True, remove_columns=columns)

    def post_process(examples, features, predictions):
        starts, ends = predictions
        answers = []
        for example, feature, start, end in zip(examples, features, starts, ends, strict=False):
            spans = [
                (start[s] + end[e], s, e)
                for s in np.argsort(start)[-n_best:]
                for e in np.argsort(end)[-n_best:]
                if s <= e and feature["offset_mapping"][s] and feature["offset_mapping"][e]
            ]
            _, s, e = max(spans, default=(0, None, None))
            if s is None:
                answers.append(("", ""))
                continue
            text = example["text"]
            begin = feature["offset_mapping"][s][0]
            given = text[begin : feature["offset_mapping"][e][1]]
            at = feature["start_positions"]
            wanted = text[feature["offset_mapping"][at][0] : feature["offset_mapping"][at + 1][1]]
            answers.append((given, wanted))
        return answers

    def compute_metrics(answers):
        return {"exact_match": 100 * float(np.mean([given == wanted for given, wanted in answers]))}

    return QuestionAnsweringTrainer(
        model=network,
        args=args,
        train_dataset=train,
        eval_dataset=features,
        eval_examples=examples,
        processing_class=tokenizer,
        data_collator=default_data_collator,
        post_process_function=post_process,
        compute_metrics=compute_metrics,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_exact_match",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3), "n_best": tune.choice([1, 3])},
    fixed={"max_steps": 4, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-3, "n_best": 3}],
    evals_per_trial=2,
)
