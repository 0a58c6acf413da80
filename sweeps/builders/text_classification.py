"""Fine-tunes a pretrained encoder to classify texts: what most search spaces name as their builder.

`check()` runs in the sweep process before Ray starts, the rest in the workers. Knows nothing of
trials, devices or where results go: all that arrives in `args`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.builders.chosen_rows import rows_to_hold_out
from sweeps.builders.data_source import summarize_splits
from sweeps.builders.prepared_text import LabelledTexts, PreparedText
from sweeps.builders.pretrained import model_problems
from sweeps.builders.revisions import DATASETS, pinned
from sweeps.builders.text_data import data_problems, number_problems
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
    data_fields: ClassVar[tuple[str, ...]] = (
        *("model", "dataset", "dataset_config", "revisions", "text_column", "label_column"),
        *("train_rows", "eval_rows", "max_tokens"),
    )
    """The fields that `prepare` reads."""

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
    stream: bool = False
    """True: Ray Data streams the prepared rows to the workers, for more of them than memory holds;
    nothing that `prepare` reads can be tuned then."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Branch, tag or commit of a Hub model by its name, and of a Hub data set by `datasets/` and
    its name; a sweep puts the commits in that it finds at its start."""

    def check(self) -> None:
        """Looks at files and columns, cheaply, and reads no rows.

        Raises:
            UserError: All that is wrong, in one message.
        """
        problems = list(number_problems(self, LEAST))
        # A senseless number is named once, and does not hide what else is wrong.
        sound = dataclasses.replace(self, eval_rows=None, max_tokens=0) if problems else self
        rows = self._rows()
        problems += model_problems(self.model, rows.model_revision, sound.max_tokens)
        columns = {"text_column": self.text_column, "label_column": self.label_column}
        problems += data_problems(
            self.dataset, self.dataset_config, rows.dataset_revision, columns, sound.eval_rows
        )
        if problems:
            raise UserError(problems, where="TextClassification")

    def pin(self) -> TextClassification:
        """The same with the commits of model and data, where the Hub can be reached.

        Raises:
            UserError: The Hub does not give one of them.
        """
        revisions = pinned(self.revisions, self.model, self.dataset)
        return dataclasses.replace(self, revisions=revisions)

    def count_rows(self) -> tuple[int | None, int | None]:
        """Rows to train on and to judge by; None where only reading many would tell.

        Raises:
            UserError: The data set cannot be found or read, or has no train split.
        """
        revision = self._rows().dataset_revision
        found = summarize_splits(self.dataset, self.dataset_config, revision, count_to=COUNTED)
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
        """The tokenised rows: computed once, then mapped from files; equal calls are free.

        Raises:
            UserError: The data cannot be read, or does not fit the task.
        """
        return self._rows().prepare()

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
            revision=self.revisions.get(self.model, "main"),
            num_labels=len(data.label_names),
            id2label=dict(enumerate(data.label_names)),
            label2id={name: index for index, name in enumerate(data.label_names)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a head for other classes is drawn anew
            pad_token_id=data.tokenizer.pad_token_id,
            trust_remote_code=False,  # without it, HF asks on the terminal whether to run it
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
            preprocess_logits_for_metrics=_judge,
        )

    def _rows(self) -> LabelledTexts:
        return LabelledTexts(
            model=self.model,
            model_revision=self.revisions.get(self.model),
            dataset=self.dataset,
            dataset_config=self.dataset_config,
            dataset_revision=self.revisions.get(f"{DATASETS}{self.dataset}"),
            text_column=self.text_column,
            label_column=self.label_column,
            train_rows=self.train_rows,
            eval_rows=self.eval_rows,
            max_tokens=self.max_tokens,
        )


def _judge(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Classes (rows,) and losses (rows,), taken on the device: no logits are kept or gathered.

    HF's own `eval_loss` is a mean over batches: on several workers the last one holds rows twice.
    """
    from torch.nn.functional import cross_entropy

    scores = logits[0] if isinstance(logits, tuple) else logits
    return scores.argmax(dim=-1), cross_entropy(scores.float(), labels, reduction="none")


def _compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
    """`loss` takes the place of HF's `eval_loss`."""
    classes, losses = evaluation.predictions
    scores: dict[str, float] = {"loss": float(losses.mean())}
    for metric in _metrics():
        scores |= metric.compute(predictions=classes, references=evaluation.label_ids)
    return scores


@functools.cache
def _metrics() -> list[Any]:
    import evaluate  # 5 to 14 s at its first import

    return [evaluate.load(str(METRICS / name), keep_in_memory=True) for name in ("accuracy", "f1")]
