"""The answer of a sweep as Markdown, for trackers: the note at the top of its run in MLflow.

Runs in the tracker's process. It must not decide who won: that is `answer/answer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.amounts import counted
from sweeps.answer.answer import Answer
from sweeps.answer.confirmation import Arm, Confirmed
from sweeps.answer.digits import number
from sweeps.answer.gain import gain_in_words
from sweeps.answer.markdown import markdown_table
from sweeps.answer.standing import Standing
from sweeps.answer.wording import (
    digits_of_answer,
    digits_of_arms,
    interval_in_words,
    unknown_in_words,
    why_no_verdict,
)
from sweeps.naming import some

DIGITS = 6
"""Significant digits of a value; more if it takes more to tell arms apart."""


def note(answer: Answer, tuned: Mapping[str, str]) -> str:
    """Return the answer as Markdown.

    Args:
        answer: The sweep's answer.
        tuned: The domain of each tuned argument, in words.
    """
    head = ""
    if answer.status == "interrupted":
        head = "The sweep was interrupted; so far:\n\n"
    elif answer.status == "failed":
        head = f"The sweep failed: {answer.reason}\n\n"
    elif answer.reason is not None:
        head = f"The sweep ended early: {answer.reason}.\n\n"
    found = _winner(answer, answer.winner) if answer.winner else "No trial has won yet.\n"
    confirmed = _confirmation(answer.confirmation) if answer.confirmation else ""
    return f"{head}{found}\n{confirmed}{_cost(answer)}\n\n{_tuned(tuned, answer.winner)}"


def _winner(answer: Answer, winner: Standing) -> str:
    better = "higher" if answer.mode == "max" else "lower"
    error = f", standard error {winner.error:.2g}" if winner.error is not None else ""
    digits = max(DIGITS, digits_of_answer(answer))
    mean, value = (number(each, digits) for each in (winner.mean, winner.value))
    lines = []
    if winner.repeats > 1:
        lines.append(
            f"**Best params: those of {winner.params_set}** with `{answer.metric}`"
            f" **{mean}**, the mean over {winner.seeds} of {winner.repeats} seeds"
            f"{error}.\n"
        )
        error = ""
    lines.append(
        f"**Best trial: {winner.trial}** with `{answer.metric}` **{value}** "
        f"({better} is better{error}) at step {winner.step} of {winner.max_steps}, epoch "
        f"{winner.epoch:.3g}.\n"
    )
    baseline = answer.baseline
    if baseline is not None:
        gain = gain_in_words(winner.params_set, baseline, answer.compared, answer.gain)
        lines.append(f"{gain[0].upper()}{gain[1:]}.\n")
    if answer.tied:
        lines.append(f"Tied with it, but suggested later: {some(answer.tied)}.\n")
    if answer.not_told_apart:
        lines.append(f"This sweep cannot tell the best from {some(answer.not_told_apart)}.\n")
    if (unknown := unknown_in_words(answer)) is not None:
        lines.append(f"{unknown[0].upper()}{unknown[1:]}.\n")
    return "\n".join(lines)


def _confirmation(confirmed: Confirmed) -> str:
    """Return what fresh seeds say: the verdict, and a line for each arm."""
    if not confirmed.ended:
        return "The confirmation with fresh seeds has not finished yet.\n\n"
    digits = max(DIGITS, digits_of_arms(confirmed))
    lines = [f"- {_arm(arm, confirmed.baseline, digits)}" for arm in confirmed.arms]
    named, why_not = confirmed.named, why_no_verdict(confirmed.named)
    verdict = "no verdict" if named is None or named.verdict is None else named.verdict
    pair = f" ({named.params_set} against {confirmed.baseline})" if named is not None else ""
    because = f", because {why_not}" if why_not is not None else ""
    another = f"; {confirmed.passed_over}" if confirmed.passed_over is not None else ""
    return (
        f"On {len(confirmed.seeds)} fresh seeds each: **{verdict}**{pair}{because}{another}.\n\n"
        + "\n".join(lines)
        + "\n\n"
    )


def _arm(arm: Arm, baseline: str, digits: int) -> str:
    what = f"{arm.params_set} (baseline)" if arm.params_set == baseline else arm.params_set
    if arm.confirmed is None:
        return f"{what}: every run failed"
    within = interval_in_words(arm.confirmed, digits, "95 % interval ")
    failed = f"{arm.failed} of {len(arm.values)} runs failed" if arm.failed else ""
    mean = ", ".join(filter(None, (number(arm.confirmed.mean, digits), within)))
    return "; ".join(filter(None, (f"{what}: {mean}", failed)))


def _cost(answer: Answer) -> str:
    ends = answer.trials
    failed = f"{ends['failed']} failed"
    if answer.failures:
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(answer.failures.items()))
        failed += f" ({kinds})"
    not_ended = f", {ends['not_ended']} not ended" if ends["not_ended"] else ""
    total = sum(ends.values())
    return (
        f"{counted(total, 'trial')}: {ends['finished']} finished,"
        f" {ends['stopped_early']} stopped early, {failed}{not_ended}."
        f" {answer.device_s:,.0f} device-seconds."
    )


def _tuned(tuned: Mapping[str, str], winner: Standing | None) -> str:
    """Return the table of the tuned arguments, with the winner's params if there is a winner."""
    params = winner.params if winner else {}
    table = markdown_table(
        ("tuned", winner.trial if winner else "", "domain"),
        [(f"`{name}`", str(params.get(name, "")), f"`{domain}`") for name, domain in tuned.items()],
    )
    return "\n".join(table)
