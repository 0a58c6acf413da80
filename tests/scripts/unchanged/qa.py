"""Answers questions, in the manner of HF's `run_qa.py`: a trainer class with its own `evaluate`."""

from dataclasses import dataclass, field

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


@dataclass
class Arguments:
    model_name_or_path: str
    data_folder: str
    doc_stride: int = field(default=8, metadata={"help": "Tokens that two windows share."})
    max_seq_length: int = 24


class QuestionAnsweringTrainer(Trainer):
    def __init__(self, *args, eval_examples=None, post_process_function=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.eval_examples = eval_examples
        self.post_process_function = post_process_function

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        output = self.evaluation_loop(
            self.get_eval_dataloader(eval_dataset or self.eval_dataset),
            description="Evaluation",
            prediction_loss_only=False,
            ignore_keys=ignore_keys,
            metric_key_prefix=metric_key_prefix,
        )
        found = self.post_process_function(self.eval_examples, output)
        metrics = {f"{metric_key_prefix}_{key}": value for key, value in found.items()}
        metrics[f"{metric_key_prefix}_loss"] = output.metrics[f"{metric_key_prefix}_loss"]
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def main():
    args, training_args = HfArgumentParser(
        (Arguments, TrainingArguments)
    ).parse_args_into_dataclasses()
    set_seed(training_args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
    model = AutoModelForQuestionAnswering.from_pretrained(args.model_name_or_path)
    raw = load_dataset(args.data_folder)

    def features(examples):
        found = tokenizer(
            examples["question"],
            examples["context"],
            truncation="only_second",
            max_length=args.max_seq_length,
            stride=args.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length",
        )
        sample = found.pop("overflow_to_sample_mapping")
        offsets = found.pop("offset_mapping")
        found["start_positions"], found["end_positions"] = [], []
        for i, mapping in enumerate(offsets):
            start = examples["start"][sample[i]]
            inside = [
                j
                for j, (a, b) in enumerate(mapping)
                if found.sequence_ids(i)[j] == 1 and a <= start < b
            ]
            found["start_positions"].append(inside[0] if inside else 0)
            found["end_positions"].append(inside[0] if inside else 0)
        return found

    rows = raw.map(features, batched=True, remove_columns=raw["train"].column_names)

    def post_process(examples, output):
        starts = np.argmax(output.predictions[0], axis=-1)
        right = starts == output.label_ids[0]
        return {"exact_match": 100.0 * float(right.mean()), "questions": len(examples)}

    trainer = QuestionAnsweringTrainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"] if training_args.do_eval else None,
        eval_examples=raw["validation"],
        processing_class=tokenizer,
        data_collator=default_data_collator,
        post_process_function=post_process,
    )
    trainer.train()
    trainer.save_state()
    trainer.save_metrics("eval", trainer.evaluate())


if __name__ == "__main__":
    main()
