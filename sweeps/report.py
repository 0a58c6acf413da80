"""What a trial reports at and between evaluations, and the single rule for which value is better.

Created by the workers, judged by the sweep process, and read back by every reader. It must not know
where a report travels or how it is stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["max", "min"]

DIGITS = 9
"""Significant digits of a value that count; they tell any two 32-bit floats apart."""

ERRORS = {
    *("loss", "losses", "perplexity", "ppl", "nll", "bits", "bpb", "bpc", "crps", "brier", "ece"),
    *("error", "errors", "err", "wer", "cer", "ter", "mer", "eer", "der", "distance", "fid", "kid"),
    *("mse", "rmse", "msle", "rmsle", "mae", "mape", "smape", "mase"),
}
"""Words in the names of metrics of which less is better."""
SCORES = {
    *("accuracy", "accuracies", "acc", "f1", "f2", "fbeta", "precision", "recall", "sensitivity"),
    *("specificity", "auc", "auroc", "auprc", "roc", "ap", "map", "iou", "dice", "exact", "em"),
    *("bleu", "sacrebleu", "chrf", "meteor", "rouge", "rougel", "rougelsum", "bertscore", "ndcg"),
    *("mrr", "hits", "mcc", "matthews", "kappa", "correlation", "pearson", "pearsonr", "spearman"),
    *("spearmanr", "kendall", "r2", "psnr", "ssim"),
}
"""Words in the names of metrics of which more is better."""


SLACK = 1e-9
"""Tolerance for rounding errors in progress: 0.1 * 3 is slightly more than 0.3."""


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One line of HF's training log."""

    step: int
    """Optimizer steps done."""
    loss: float | None = None
    """Training loss as HF logs it: the mean since the last log."""
    learning_rate: float | None = None
    """Learning rate of the first parameter group."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a trial reports at one evaluation; its key is (`trial`, `number`)."""

    trial: str
    """Trial id, `t001`."""
    number: int
    """Evaluation number within the trial, from 1; the same in every attempt."""
    attempt: int = 1
    """Attempt that sent the report, from 1."""
    step: int
    """Optimizer steps done."""
    max_steps: int
    """Optimizer steps planned for the complete trial."""
    epoch: float
    """Epochs done, as HF counts them."""
    metrics: Mapping[str, float]
    """HF's evaluation metrics by their HF names (`eval_accuracy`); values may be non-finite."""
    ends_itself: bool = False
    """Whether the trial's own code (an `EarlyStoppingCallback`, a time limit) ends the trial here,
    before its last step."""
    eval_rows: int | None = None
    """Number of rows that the judged metric was computed from: those of its evaluation set. None if
    unknown, as for a mean over several sets."""
    labels_per_row: int | None = None
    """Number of labels in each of these rows; None if unknown."""
    right_rows: str | None = None
    """Which of these rows the model got right, if the judged metric is the fraction of right rows:
    a checksum of the labels, a colon, and one bit per row in hexadecimal (10,000 rows: 2.5 kB).
    None if unknown."""
    classes_differ: bool = False
    """Whether the judged metric has the name of a share of right rows, but the classes that the
    evaluation returned give another share, so that it is none. If they are not known, this is
    False, and `right_rows` is None."""
    majority: float | None = None
    """Share of these rows that have the most frequent label, which is the score of a model that
    always predicts this label. None if `right_rows` is None."""
    row_parts: str | None = None
    """If the judged metric is another ratio of two sums over rows, such as a mean loss: what each
    of these rows contributes to both sums; see `records/row_values.py` (at most 5 kB). None if
    unknown."""
    train_s: float
    """Seconds inside `Trainer.train()` so far in this attempt, evaluations included."""
    rows_per_s: float | None = None
    """Train rows per second since the last report, over all workers, without evaluations and waits
    for decisions; None if unknown."""
    memory_bytes: int | None = None
    """Host memory of rank 0's process at the report; None if unknown."""
    gpu_memory_bytes: int | None = None
    """Peak memory that torch has used on rank 0's GPU since the start of the trial; None without a
    GPU.
    """
    log_entries: tuple[LogEntry, ...] = ()
    """The training log since the last report, oldest first."""

    @property
    def progress(self) -> float:
        """Optimizer steps done, divided by those planned; in (0, 1]."""
        return self.step / self.max_steps

    @property
    def is_last(self) -> bool:
        """Whether the trial trains no further, because it is complete or ends itself."""
        return self.progress >= 1 or self.ends_itself

    def non_finite(self, metric: str) -> str | None:
        """Return what shows that the trial has diverged; None if it has not.

        A trial has diverged if a training loss, the judged metric or `eval_loss` is not a finite
        number. Two NaNs do not count:

        - the judged metric's at the first evaluation (a correlation of constant predictions),
          unless the trial ends there or `eval_loss` is NaN as well
        - `eval_loss`'s if another metric is judged and has a value (a batch without any label)
        """
        judged, loss = (self.metrics.get(name, 0.0) for name in (metric, "eval_loss"))
        has_no_value_yet = self.number == 1 and not self.is_last and not math.isnan(loss)
        if math.isinf(judged) or (math.isnan(judged) and not has_no_value_yet):
            return f"{metric} is {judged}"
        if math.isinf(loss):
            return f"eval_loss is {loss}"
        for entry in self.log_entries:
            if entry.loss is not None and not math.isfinite(entry.loss):
                return f"the training loss is {entry.loss} at step {entry.step}"
        return None

    def value(self, metric: str) -> float:
        """Return the judged metric; NaN if it is missing or the trial has diverged.

        A model whose weights are NaN may still score well: it always predicts the first label.
        """
        diverged = self.non_finite(metric) is not None
        return math.nan if diverged else self.metrics.get(metric, math.nan)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How far a trial is between two reports; only displayed, never logged."""

    trial: str
    step: int
    """Optimizer steps done."""
    max_steps: int
    """Optimizer steps planned for the complete trial."""
    evaluating: bool
    """Whether the trial is evaluating after these steps."""
    rows_per_s: float | None
    """Train rows per second, over all workers; None until it is known."""
    newest: LogEntry | None
    """The latest line of the training log."""


def may_be_share_of_rows(metric: str) -> bool:
    """Tell from its name whether a metric may be the fraction of rows that a model gets right.

    Plain accuracy is; accuracy over tokens (`mean_token_accuracy`) and the mean over classes
    (`balanced_accuracy`) are not.
    """
    return metric.endswith("accuracy") and not re.search("token|balanced", metric)


def usual_mode(metric: str) -> Mode | None:
    """Return the mode that the last known word of a metric's name implies; None if it has none.

    A number at the end of a word does not matter (`rouge1`), nor does what follows (`map_50`).
    """
    for word in reversed(re.findall("[a-z]+[0-9]*", metric.lower())):
        for name in (word, word.rstrip("0123456789")):
            if name in ERRORS:
                return "min"
            if name in SCORES:
                return "max"
    return None


def reached(progress: float, point: float) -> bool:
    """Tell whether a trial that is this far has reached a point, both as shares of the trial."""
    return progress + SLACK >= point


def rounded(value: float) -> float:
    """Return a value, or a mean of values, in the `DIGITS` that count.

    Two values are equal if these digits are: the last bits of a mean depend on how its values
    happen to be rounded, so the means of (0.7, 0.7, 0.7) and (1.0, 0.4, 0.7) differ in them.
    """
    return float(f"{value:.{DIGITS}g}")


def alike(values: Collection[float]) -> bool:
    """Tell whether values differ by no more than one unit in the last of the `DIGITS` that count.

    Unlike `rounded`, this does not depend on which side of a rounding border a value lies.
    """
    low, high = min(values), max(values)
    gap = high - low
    return math.isfinite(gap) and gap <= 10.0 ** -_decimals(low, high)


def difference(value: float, other: float) -> float:
    """Return `value` - `other`, rounded at the last digit that counts of the larger one; never -0.

    Each value has a rounding error of its own, so more digits of the difference say nothing.
    """
    gap = value - other
    return round(gap, _decimals(value, other)) or 0.0 if math.isfinite(gap) else gap


def _decimals(*values: float) -> int:
    """Return how many decimals the largest of finite values has in the `DIGITS` that count."""
    largest = max(map(abs, values))
    return DIGITS - 1 - math.floor(math.log10(largest)) if largest else DIGITS


def better(value: float, than: float | None, mode: Mode) -> bool:
    """Tell whether `value` is better than `than`, beyond rounding.

    A non-finite value is never better.
    """
    if not math.isfinite(value):
        return False
    if than is None or not math.isfinite(than):
        return True
    ours, theirs = rounded(value), rounded(than)
    return ours > theirs if mode == "max" else ours < theirs
