"""Fine-tunes a pretrained encoder to find named entities, with a tag for each word of a sentence.

`check()` runs in the sweep process before Ray starts, the rest in the workers. It must not know
about trials, devices or where results go: all of that is in `args`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.amounts import counted
from sweeps.builders.base import COLUMN, DATA, METRICS, Prepared
from sweeps.builders.data.class_labels import ClassLabels, check_eval_labels, read_class_labels
from sweeps.builders.data.data_source import Split
from sweeps.builders.data.prepared_data import ROWS_AT_ONCE, Batch
from sweeps.builders.row_builder import RowBuilder
from sweeps.errors import UserError
from sweeps.space.builder import EVAL, Pipeline

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import (
        EvalPrediction,
        PreTrainedTokenizerBase,
        Trainer,
        TrainingArguments,
    )

UNLABELLED = -100
"""Label of tokens that neither the loss nor the metrics count, as in torch."""


@dataclass(frozen=True, kw_only=True)
class TokenClassification(RowBuilder):
    """Builds a `Trainer` that fine-tunes `model` to predict `tags_column` from `tokens_column`.

    Both columns contain lists of equal length: words and their IOB2 tags (`B-PER`, `I-PER`, `O`),
    as in CoNLL data. A word with several tokens is labelled at its first token. The evaluation
    returns `eval_loss` (nats per word), and `eval_f1`, `eval_precision` and `eval_recall` over
    entities. Words beyond `max_tokens` are not evaluated. A test split is never read.
    """

    pipeline: ClassVar = Pipeline(task="token-classification")
    metric_names: ClassVar = ("loss", "f1", "precision", "recall")
    content_field: ClassVar[str] = "tokens_column"
    tiny_model: ClassVar[str] = "tagging_model"
    tiny_dataset: ClassVar[str] = "entities"
    # Byte-level tokenizers (GPT-2, RoBERTa) accept words only with this option; others do not have
    # it.
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}

    tokens_column: str = field(default="tokens", metadata=DATA | COLUMN)
    """Column with the words of each sentence, as a list of strings."""
    tags_column: str = field(default="ner_tags", metadata=DATA | COLUMN)
    """Column with their tags, as a list of names or of `ClassLabel` ids."""

    def __call__(self, args: TrainingArguments, *, data: Prepared) -> Trainer:
        """Return a `Trainer` with a new model.

        The head is initialised here, so set the seed first.
        """
        from transformers import (
            AutoModelForTokenClassification,
            DataCollatorForTokenClassification,
            Trainer,
        )

        model = AutoModelForTokenClassification.from_pretrained(
            self.model,
            revision=self.model_revision or "main",
            num_labels=len(data.label_names),
            id2label=dict(enumerate(data.label_names)),
            label2id={name: index for index, name in enumerate(data.label_names)},
            ignore_mismatched_sizes=True,  # a head for other tags starts at random
            trust_remote_code=False,  # without it, HF asks on the terminal whether to run it
            dtype="float32",  # Adam needs 32 bits; transformers 5 would keep the checkpoint's dtype
        )
        # Some models divide their loss by the number of items that HF counts, while others (BERT)
        # always take the mean (transformers 5.23). So here the loss is always the mean over the
        # batch.
        model.accepts_loss_kwargs = False
        return Trainer(
            model=model,
            args=args,
            data_collator=DataCollatorForTokenClassification(
                data.tokenizer, pad_to_multiple_of=8 if args.device.type == "cuda" else None
            ),
            train_dataset=data.train,
            eval_dataset=data.eval,
            processing_class=data.tokenizer,
            compute_metrics=_Metrics(data.label_names),
            preprocess_logits_for_metrics=_tag,
        )

    @classmethod
    def open_tokenizer(cls, model: str, revision: str | None) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer, which can map tokens to words.

        Raises:
            UserError: It cannot be loaded, or cannot do that.
        """
        tokenizer = super().open_tokenizer(model, revision)
        if not tokenizer.is_fast:
            raise UserError(
                f"model={model!r}: its tokenizer cannot map tokens to words;"
                " use a model with a fast tokenizer (tokenizer.json)"
            )
        return tokenizer

    def _column_problems(self, splits: Mapping[Split, Dataset]) -> Iterator[str]:
        import pyarrow.compute as pc

        for split, table in splits.items():
            lists = True
            for name, column in self._columns.items():
                feature = table.features[column]
                element = getattr(feature, "feature", None)
                if element is None:
                    yield f"{name}={column!r}: this column of {split} contains {feature}, not lists"
                elif name == "tokens_column" and element.dtype not in ("string", "large_string"):
                    yield (
                        f"{name}={column!r}: this column of {split} contains lists of {element},"
                        " not lists of text"
                    )
                elif missing := table.data[column].null_count:
                    yield (
                        f"{name}={column!r}: {split} has {counted(missing, 'row')}"
                        " without a list; remove such rows"
                    )
                elif missing := pc.list_flatten(table.data[column]).null_count:
                    yield (
                        f"{name}={column!r}: lists of {split} contain null ({missing} in total);"
                        " remove those rows"
                    )
                else:
                    continue
                lists = False
            if not lists:
                continue
            lengths = [pc.list_value_length(table.data[of]) for of in self._columns.values()]
            differing = pc.indices_nonzero(pc.not_equal(*lengths)).to_pylist()
            if differing:
                row = differing[0]
                yield (
                    f"row {row} of {split} has {lengths[0][row]} words in {self.tokens_column!r}"
                    f" and {lengths[1][row]} tags in {self.tags_column!r}"
                    f" ({len(differing)} such rows)"
                )

    def _read_labels(self, train: Dataset) -> ClassLabels:
        labels = read_class_labels(train, self.tags_column, "tags_column", in_lists=True)
        wrong = [name for name in labels.names if name != "O" and name[:2] not in ("B-", "I-")]
        if wrong:
            raise UserError(
                f"{wrong[0]!r} is not an IOB2 tag; use 'O', or 'B-' or 'I-' followed by the entity"
                " type",
                where=f"tags_column={self.tags_column!r}",
            )
        return labels

    def _check_labels(self, train: Dataset, evaluation: Dataset, labels: ClassLabels) -> None:
        check_eval_labels(train, evaluation, self.tags_column, "tags_column")

    def _row_notes(
        self, rows: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, labels: ClassLabels
    ) -> Iterator[str]:
        columns = self.tokens_column, self.tags_column
        for name, table in rows.items():
            found = Counter(
                word
                for batch in table.iter(ROWS_AT_ONCE)
                for row in zip(*(batch[column] for column in columns), strict=True)
                for word, tag in zip(*row, strict=True)
                if labels.names[labels.id_of(tag)] != "O"
            )
            alone = [[word] for word in found]
            tokens = tokenizer(alone, is_split_into_words=True, add_special_tokens=False)
            lost = [w for w, ids in zip(found, tokens["input_ids"], strict=True) if not ids]
            if lost:
                yield (
                    f"{sum(found[word] for word in lost):,} entity words in the {name} rows have no"
                    f" tokens, for example {lost[0]!r}; neither the loss nor the metrics count them"
                )

    def _encode(
        self, batch: Batch, tokenizer: PreTrainedTokenizerBase, labels: ClassLabels
    ) -> Batch | None:
        rows = [i for i, words in enumerate(batch[self.tokens_column]) if words]
        if not rows:
            return None
        tokens = tokenizer(
            [batch[self.tokens_column][i] for i in rows],
            is_split_into_words=True,
            truncation=True,
            max_length=self.max_tokens,
        )
        ids = [[labels.id_of(tag) for tag in batch[self.tags_column][i]] for i in rows]
        tokens["labels"] = [_at_first_tokens(row, tokens.word_ids(i)) for i, row in enumerate(ids)]
        rows_of_tokens: Batch = tokens  # includes the encodings, which show what was truncated
        return rows_of_tokens


def _at_first_tokens(labels: Sequence[int], words: Sequence[int | None]) -> list[int]:
    """Return a label for each token, given the index of the word that it belongs to."""
    return [
        UNLABELLED if word is None or word == before else labels[word]
        for before, word in pairwise([None, *words])
    ]


def _tag(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return classes (rows, tokens) and the summed losses (rows,), computed on the device.

    HF's own `eval_loss` is a mean over batches, the last of which has duplicate rows if there are
    several workers.
    """
    from torch.nn.functional import cross_entropy

    scores = logits[0] if isinstance(logits, tuple) else logits
    losses = cross_entropy(scores.transpose(1, 2).float(), labels, reduction="none")
    return scores.argmax(dim=-1), losses.sum(dim=-1)


@dataclass(frozen=True)
class _Metrics:
    """The metrics of an evaluation, and what each row contributes to them."""

    label_names: Sequence[str]

    def __call__(self, evaluation: EvalPrediction) -> dict[str, float]:
        """Return the metrics; `loss` replaces HF's `eval_loss`."""
        classes, losses = evaluation.predictions
        scores: dict[str, float] = _entities().compute(
            predictions=self._tags(classes, evaluation),
            references=self._tags(evaluation.label_ids, evaluation),
        )
        counted = evaluation.label_ids != UNLABELLED
        return {"loss": float(losses.sum() / counted.sum()), **scores}

    def row_parts(self, evaluation: EvalPrediction, metric: str) -> tuple[Any, Any] | None:
        """Return what each row contributes to the two sums whose ratio is a metric.

        None: unknown.
        """
        from sweeps.builders.metrics.entities.entities import entities

        name = metric.removeprefix(EVAL)
        if name not in ("precision", "recall", "f1"):
            return None
        of_rows = [
            tuple(set(entities(tags)) for tags in both)
            for both in zip(
                self._tags(evaluation.predictions[0], evaluation),
                self._tags(evaluation.label_ids, evaluation),
                strict=True,
            )
        ]
        hits = [len(predicted & labelled) for predicted, labelled in of_rows]
        predicted, labelled = (
            [len(found) for found in side] for side in zip(*of_rows, strict=True)
        )
        match name:
            case "precision":
                return hits, predicted
            case "recall":
                return hits, labelled
        both = [sum(pair) for pair in zip(predicted, labelled, strict=True)]
        return [2 * hit for hit in hits], both

    def _tags(self, ids: Any, evaluation: EvalPrediction) -> list[list[str]]:
        """Return the tags of the words in each row."""
        counted = evaluation.label_ids != UNLABELLED
        return [
            [self.label_names[id_] for id_ in row[kept]]
            for row, kept in zip(ids, counted, strict=True)
        ]


@functools.cache
def _entities() -> Any:
    import evaluate  # takes 5 to 14 s on first import

    return evaluate.load(str(METRICS / "entities"), keep_in_memory=True)
