"""How often the answer is wrong about params that are equally good: the rates in docs/confirm.md.

    python scripts/answer_rates.py

Draws sweeps whose params are all equally good, has them judged by the code that judges a real
sweep, and prints the tables of the docs. Takes about half a minute on one CPU core; needs neither
a GPU nor Ray. The seeds are fixed, so it prints the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sweeps.answer.answer import find_answer
from sweeps.answer.row_noise import over_seeds_and_rows
from sweeps.answer.seed_statistics import paired_differences, paired_t
from sweeps.answer.standing import interval
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.report import Report

METRIC = "eval_accuracy"
SEEDS = 6
"""Fresh seeds of a confirmation."""


def report(trial: str, right: np.ndarray) -> Report:
    """A report of a trial that got these rows right (rows,)."""
    return Report(
        trial=trial,
        number=1,
        step=1,
        max_steps=1,
        epoch=1.0,
        metrics={METRIC: float(right.mean())},
        eval_rows=len(right),
        labels_per_row=1,
        right_rows=f"00000000:{np.packbits(right).tobytes().hex()}",
        train_s=1.0,
    )


def search(right: np.ndarray) -> History:
    """A sweep whose trials got these rows right (trials, rows)."""
    history = History(METRIC, "max")
    for number, rows in enumerate(right, 1):
        trial = f"t{number:03}"
        history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
        history.apply(ev.Reported(report=report(trial, rows)))
        history.apply(ev.TrialEnded(trial=trial, status="finished"))
    return history


def told_apart(trials: int, rows: int, times: int) -> tuple[float, float, float]:
    """Judge sweeps over trials that get each row right equally often: half of the time to always.

    Returns:
        The shares of trials that are told apart from the best, of sweeps with at least one such
        trial, and of best trials whose 95 % interval has the true accuracy.
    """
    numbers = np.random.default_rng(trials * rows)
    marked, any_marked, held = 0, 0, 0
    for _ in range(times):
        hard = numbers.uniform(0.5, 1.0, rows)
        answer = find_answer(search(numbers.random((trials, rows)) < hard), "finished")
        assert answer.winner is not None
        unlike = trials - 1 - len(answer.not_told_apart or ())
        marked, any_marked = marked + unlike, any_marked + (unlike > 0)
        low, high = interval(answer.winner, METRIC) or (0.0, 0.0)
        held += low <= 0.75 <= high
    return marked / times / (trials - 1), any_marked / times, held / times


def called_better(trials: int, rows: int, suits: float, times: int) -> tuple[float, float]:
    """Confirm winners of sweeps over params that are equally good, each better on rows of its own.

    Args:
        trials: Trials of the search; the first is the baseline.
        rows: Evaluation rows of the search and of the confirmation.
        suits: How much params differ on a row: the standard deviation of a normal effect of params
            and row on the logit. Rows themselves differ by 1.7.
        times: Number of sweeps.

    Returns:
        The shares of verdicts that are `better`, and of intervals over seeds and rows above 0.
    """
    numbers = np.random.default_rng([trials, rows, round(10 * suits)])
    better, above, judged = 0, 0, 0
    while judged < times:
        logits = 1.7 * (1 + numbers.normal(0, 1, rows)) + suits * numbers.normal(
            0, 1, (trials, rows)
        )
        share = 1 / (1 + np.exp(-logits))
        winner = int((numbers.random((trials, rows)) < share).mean(axis=1).argmax())
        if winner == 0:
            continue  # the baseline has won
        judged += 1
        runs = [
            [report("c001", numbers.random(rows) < share[params]) for params in (winner, 0)]
            for _ in range(SEEDS)
        ]
        gaps = paired_differences(
            [(one.metrics[METRIC], other.metrics[METRIC]) for one, other in runs]
        )
        better += paired_t(gaps) <= 0.05 and sum(gaps) > 0
        both = over_seeds_and_rows([(one, other) for one, other in runs])
        above += both is not None and both.interval is not None and both.interval[0] > 0
    return better / times, above / times


def told_apart_table() -> Iterator[str]:
    """Yield the lines of the docs' table of what `results` tells apart."""
    yield "| trials | left without ≈ | sweeps with one or more of these | interval holds |"
    yield "| --- | --- | --- | --- |"
    for trials, times in ((2, 2000), (8, 1000), (24, 400), (100, 100)):
        found = told_apart(trials, 1000, times)
        yield f"| {trials} | {' | '.join(f'{100 * share:.1f} %' for share in found)} |"


def called_better_table() -> Iterator[str]:
    """Yield the lines of the docs' table of what `confirm` calls better."""
    yield "| trials | rows | params differ on a row by | `better` | second interval above 0 |"
    yield "| --- | --- | --- | --- | --- |"
    for trials, rows, suits in (
        *((8, 450, 0.0), (8, 450, 0.5), (8, 450, 1.7), (24, 450, 0.5), (24, 450, 1.7)),
        *((24, 100, 0.5), (24, 100, 1.7), (24, 100, 3.4)),
    ):
        found = called_better(trials, rows, suits, 2000)
        shares = " | ".join(f"{100 * share:.0f} %" for share in found)
        yield f"| {trials} | {rows} | {suits:g} | {shares} |"


if __name__ == "__main__":
    print("Told apart by `results`:\n")
    print(*told_apart_table(), sep="\n")
    print("\nCalled better by `confirm`:\n")
    print(*called_better_table(), sep="\n")
