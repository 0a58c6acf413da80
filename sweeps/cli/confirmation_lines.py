"""What a confirmation says, as lines of text.

Used by the summary and by the verbs that show the answer. It must not judge:
`answer/confirmation.py` does.
"""

from __future__ import annotations

from sweeps.amounts import counted, duration
from sweeps.answer.confirmation import Arm, Comparison, Confirmed
from sweeps.answer.digits import number, span
from sweeps.answer.wording import (
    difference_in_words,
    digits_of_arms,
    interval_in_words,
    why_no_verdict,
)


def confirmation_lines(confirmed: Confirmed, metric: str) -> list[str]:
    """Return lines on how the params did on fresh seeds, and whether the winner is better."""
    if not confirmed.ended:
        return ["the confirmation has not finished, so there is no verdict yet"]
    lines = [
        f"on {len(confirmed.seeds)} fresh seeds each ({metric}, 95 % interval of the mean;"
        f" {duration(confirmed.device_s)} of device time):"
    ]
    digits = digits_of_arms(confirmed)
    lines += [_arm_line(arm, confirmed, digits) for arm in confirmed.arms]
    named = confirmed.named
    if named is None:
        lines.append(f"verdict: none, because {why_no_verdict(named)}")
    else:
        lines.append(f"verdict: {_verdict_line(named, confirmed)}")
    if confirmed.passed_over is not None:
        lines.append(confirmed.passed_over)
    further = [one for one in confirmed.comparisons if not one.named]
    if further:
        count = counted(len(further), "further comparison")
        lines.append(f"{count}, p-values of the verdicts adjusted by Holm's method:")
        lines += [f"      {_verdict_line(one, confirmed)}" for one in further]
    return lines


def _arm_line(arm: Arm, confirmed: Confirmed, digits: int) -> str:
    what = (
        f"{arm.params_set} (baseline)" if arm.params_set == confirmed.baseline else arm.params_set
    )
    found, failed = arm.confirmed, arm.failed
    if found is None:
        return f"      {what}: every run failed"
    line = f"      {what}: {number(found.mean, digits)}"
    if within := interval_in_words(found, digits):
        line += f" ({within})" + (f", sd {number(found.sd)}" if found.sd else "")
    if arm.search_value is not None and arm.optimism is not None:
        line += f"; the search saw {number(arm.search_value)}, optimism {number(arm.optimism)}"
    return line + (f"; {counted(failed, 'run')} failed" if failed else "")


def _verdict_line(one: Comparison, confirmed: Confirmed) -> str:
    why_not = why_no_verdict(one)
    verdict = one.verdict if why_not is None else f"none, because {why_not}"
    said = f"{verdict}: {one.params_set} against the baseline {confirmed.baseline}"
    found = one.difference
    if found is None or found.n < 2:
        return said
    flipped = f"exact sign-flip test p {one.p_sign_flip:.2g}"
    tests = f"paired t-test p {one.p_value:.2g}, {flipped}"
    if found.sd == 0:  # the t-test has no p of its own
        adjusted = f", adjusted {one.p_value:.2g}" if one.p_value != one.p_sign_flip else ""
        tests = f"{flipped}{adjusted}"
    by = f"{difference_in_words(found, len(confirmed.seeds))}; {tests}"
    if one.with_rows is not None:
        by += f"; {span(*one.with_rows)} with the noise of the evaluation rows"
    return f"{said}, {by}"
