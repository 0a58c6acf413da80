"""Fine-tunes a pretrained encoder to classify texts: what most search spaces name as their builder.

`check()` runs in the sweep process before Ray starts, the rest in the workers. Knows nothing of
trials, devices or where results go: all that arrives in `args`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.builders.data_source import summarize_splits
from sweeps.builders.prepared_data import rows_to_hold_out
from sweeps.builders.prepared_text import PreparedText, column_problems, prepare_text
from sweeps.builders.pretrained import model_problems
from sweeps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import EvalPrediction, Trainer, TrainingArguments

TINY = Path(__file__).parent / "tiny"
METRICS = Path(__file__).parent / "metrics"

COUNTED = 100_000
"""Rows of a csv or jsonl file that are counted before anything starts, at most."""
LEAST = {"train_rows": 1, "eval_rows": 1, "max_tokens": 3}  # three: [CLS], one token, [SEP]


@dataclass(frozen=True, kw_only=True)
class TextClassification:
    """Builds a `Trainer` that fine-tunes `model` to predict `label_column` from `text_column`.

    The classes are read from the data. The evaluation gives `eval_loss`, `eval_accuracy` and
    `eval_f1` (macro). A test split is never read.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("model", "dataset")
    """The fields that may name something on this disk; `sweeps` makes those absolute."""

    model: str
    """Hub name or local folder of a pretrained model with its tokenizer."""
    dataset: str
    """Hub name, or local folder: train and validation as parquet, csv or jsonl, or a
    `save_to_disk` folder."""
    dataset_config: str | None = None
    """The configuration of a Hub data set that has several; None: its default."""
    text_column: str = "text"
    """Column with the text to classify."""
    label_column: str = "label"
    """Column with the class: a name, or a whole number (gaps are fine)."""
    train_rows: int | None = None
    """Train on at most so many rows; None: all."""
    eval_rows: int | None = None
    """Judge by at most so many rows of the validation split; None: all. Without a validation split
    so many rows are held out of train, the same for all trials; None: a tenth of train."""
    max_tokens: int = 256
    """Longer texts are cut at so many tokens, special tokens included."""

    def check(self) -> None:
        """Looks at files and columns, cheaply, and reads no rows.

        Raises:
            UserError: All that is wrong, in one message.
        """
        problems = list(self._number_problems())
        # A senseless number is named once, and does not hide what else is wrong.
        sound = dataclasses.replace(self, eval_rows=None, max_tokens=0) if problems else self
        problems += model_problems(self.model, sound.max_tokens)
        problems += sound._data_problems()
        if problems:
            raise UserError(problems, where="TextClassification")

    def count_rows(self) -> tuple[int | None, int | None]:
        """Rows to train on and to judge by; None where only reading many would tell.

        Raises:
            UserError: The data set cannot be found or read, or has no train split.
        """
        found = summarize_splits(self.dataset, self.dataset_config, count_to=COUNTED)
        train, held_out = found["train"].rows, None
        if train is None or train >= COUNTED:
            return None, self.eval_rows
        if "validation" in found:
            judged = found["validation"].rows
        else:
            judged = held_out = rows_to_hold_out(train, self.eval_rows)
        left = train - (held_out or 0)
        limits = (self.train_rows or left, self.eval_rows or judged)
        return min(left, limits[0]), None if judged is None else min(judged, limits[1] or judged)

    def prepare(self) -> PreparedText:
        """The tokenised rows: computed once a node, then mapped from files; equal calls are free.

        Raises:
            UserError: The data cannot be read, or does not fit the task.
        """
        return prepare_text(
            model=self.model,
            dataset=self.dataset,
            dataset_config=self.dataset_config,
            text_column=self.text_column,
            label_column=self.label_column,
            train_rows=self.train_rows,
            eval_rows=self.eval_rows,
            max_tokens=self.max_tokens,
        )

    def tiny(self) -> TextClassification:
        """The same with the shipped model of 15,000 parameters and 512 generated reviews."""
        return dataclasses.replace(
            self,
            model=str(TINY / "model"),
            dataset=str(TINY / "dataset"),
            dataset_config=None,
            text_column="text",
            label_column="label",
            train_rows=None,
            eval_rows=None,
        )

    def __call__(self, args: TrainingArguments, *, data: PreparedText) -> Trainer:
        """A `Trainer` with a new model; the head is drawn here, so set the seed before."""
        from transformers import (
            AutoModelForSequenceClassification,
            DataCollatorWithPadding,
            Trainer,
        )

        model = AutoModelForSequenceClassification.from_pretrained(
            self.model,
            num_labels=len(data.label_names),
            id2label=dict(enumerate(data.label_names)),
            label2id={name: index for index, name in enumerate(data.label_names)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a head for other classes is drawn anew
            pad_token_id=data.tokenizer.pad_token_id,
            dtype="float32",  # transformers 5 keeps a checkpoint's own; Adam needs 32 bits
        )
        # transformers 5.23 takes any forward(**kwargs) for one that divides the loss by the number
        # of items, and multiplies it by workers and accumulation steps; this mean loss does not.
        model.accepts_loss_kwargs = False
        return Trainer(
            model=model,
            args=args,
            data_collator=DataCollatorWithPadding(
                data.tokenizer, pad_to_multiple_of=8 if args.device.type == "cuda" else None
            ),
            train_dataset=data.train,
            eval_dataset=data.eval,
            processing_class=data.tokenizer,
            compute_metrics=_compute_metrics,
            preprocess_logits_for_metrics=_predicted_classes,
        )

    def _number_problems(self) -> Iterator[str]:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is None and name != "max_tokens":
                continue
            if not isinstance(value, int) or value < least:
                yield f"{name}={value!r}: must be a whole number, at least {least}"

    def _data_problems(self) -> Iterator[str]:
        if self.dataset_config is not None and Path(self.dataset).exists():
            yield f"dataset_config={self.dataset_config!r}: a local folder has none; remove it"
        try:
            splits = summarize_splits(
                self.dataset, self.dataset_config, count_to=(self.eval_rows or 9) + 1
            )
            columns = {split: found.columns for split, found in splits.items() if found.columns}
            yield from column_problems(columns, self.text_column, self.label_column)
            rows = splits["train"].rows
            if "validation" not in splits and rows is not None:
                rows_to_hold_out(rows, self.eval_rows)
        except UserError as error:
            yield from error.problems


def _predicted_classes(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Classes (rows,), taken on the device: no logits (rows, classes) are kept or gathered."""
    scores = logits[0] if isinstance(logits, tuple) else logits
    return scores.argmax(dim=-1)


def _compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
    scores: dict[str, float] = {}
    for metric in _metrics():
        scores |= metric.compute(
            predictions=evaluation.predictions, references=evaluation.label_ids
        )
    return scores


@functools.cache
def _metrics() -> list[Any]:
    import evaluate  # 5 to 14 s at its first import

    return [evaluate.load(str(METRICS / name), keep_in_memory=True) for name in ("accuracy", "f1")]
