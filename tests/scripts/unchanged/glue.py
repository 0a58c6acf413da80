"""Classifies texts, in the manner of HF's `run_glue.py`: three dataclasses, `HfArgumentParser`."""

import logging
import os
import sys
from dataclasses import dataclass, field

import numpy as np
from datasets import load_dataset
from shared_metrics import accuracy
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(metadata={"help": "The model."})
    classifier_dropout: float = field(default=0.1, metadata={"help": "Of the new head."})


@dataclass
class DataArguments:
    train_file: str = field(metadata={"help": "Rows to train on."})
    validation_file: str = field(metadata={"help": "Rows to evaluate on."})
    max_seq_length: int = field(default=32, metadata={"help": "Tokens of a row."})


def main() -> None:
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(os.path.abspath(sys.argv[1]))
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    logging.basicConfig(handlers=[logging.StreamHandler(sys.stdout)])
    set_seed(training_args.seed)
    files = {"train": data_args.train_file, "validation": data_args.validation_file}
    raw = load_dataset("parquet", data_files=files)
    config = AutoConfig.from_pretrained(
        model_args.model_name_or_path,
        num_labels=5,
        classifier_dropout=model_args.classifier_dropout,
    )
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_args.model_name_or_path, config=config
    )

    def tokenize(batch):
        return tokenizer(batch["text"], truncation=True, max_length=data_args.max_seq_length)

    with training_args.main_process_first(desc="tokenize"):
        rows = raw.map(tokenize, batched=True)

    def compute_metrics(p: EvalPrediction):
        return {"accuracy": accuracy(np.argmax(p.predictions, axis=1), p.label_ids)}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"] if training_args.do_train else None,
        eval_dataset=rows["validation"] if training_args.do_eval else None,
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    if training_args.do_train:
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_model()
        trainer.save_state()
    if training_args.do_eval:
        trainer.save_metrics("eval", trainer.evaluate())


if __name__ == "__main__":
    main()
