"""Token classification: word labels spread over tokens, entity scores that were a nested dict."""

import numpy as np
import places
from datasets import ClassLabel, load_dataset
from ray import tune
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from sweeps import SearchSpace


def entity_scores(predictions, references, names):
    """Scores in the form of `seqeval`: one dict for each kind of entity, and the overall ones."""
    kinds = sorted({name.split("-")[-1] for name in names if name != "O"})
    flat = [
        (p, r)
        for ps, rs in zip(predictions, references, strict=False)
        for p, r in zip(ps, rs, strict=False)
    ]
    found = {}
    for kind in kinds:
        of_kind = [(p, r) for p, r in flat if r.endswith(kind)]
        found[kind] = {
            "recall": float(np.mean([p == r for p, r in of_kind])) if of_kind else 0.0,
            "number": len(of_kind),
        }
    return {**found, "overall_accuracy": float(np.mean([p == r for p, r in flat]))}


def main(
    args: TrainingArguments,
    *,
    model=places.MODEL,
    dataset=places.ENTITIES,
    label_all_tokens=False,
    return_entity_level_metrics=True,
):
    raw = load_dataset(dataset)
    features = raw["train"].features
    assert isinstance(features["ner_tags"].feature, ClassLabel)
    names = features["ner_tags"].feature.names
    config = AutoConfig.from_pretrained(
        model,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError("this script needs a fast tokenizer")
    network = AutoModelForTokenClassification.from_pretrained(model, config=config)

    def tokenize_and_align_labels(examples):
        tokenized = tokenizer(
            examples["tokens"], truncation=True, max_length=32, is_split_into_words=True
        )
        labels = []
        for i, tags in enumerate(examples["ner_tags"]):
            previous, ids = None, []
            for word in tokenized.word_ids(batch_index=i):
                new = word is not None and (word != previous or label_all_tokens)
                ids.append(tags[word] if new else -100)
                previous = word
            labels.append(ids)
        tokenized["labels"] = labels
        return tokenized

    def split(name, rows):
        chosen = raw[name].select(range(rows))
        return chosen.map(tokenize_and_align_labels, batched=True)

    def compute_metrics(p):
        predictions, labels = p
        best = np.argmax(predictions, axis=2)
        kept = [
            [(p, r) for p, r in zip(ps, rs, strict=False) if r != -100]
            for ps, rs in zip(best, labels, strict=False)
        ]
        results = entity_scores(
            [[names[p] for p, _ in row] for row in kept],
            [[names[r] for _, r in row] for row in kept],
            names,
        )
        if not return_entity_level_metrics:
            return {"accuracy": results["overall_accuracy"]}
        final = {}
        for key, value in results.items():
            if isinstance(value, dict):
                for n, v in value.items():
                    final[f"{key}_{n}"] = v
            else:
                final[key] = value
        return final

    return Trainer(
        model=network,
        args=args,
        train_dataset=split("train", 64) if args.do_train else None,
        eval_dataset=split("validation", 32) if args.do_eval else None,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=compute_metrics,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_overall_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    fixed={"max_steps": 4, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-3}],
    evals_per_trial=2,
)
