"""What a sweep repeats of an earlier one, and whether it reproduced the metric.

Read from the folders of both, during the sweep or long after. It must not know how a sweep is
repeated.
"""

from __future__ import annotations

from sweeps.answer.results import Results
from sweeps.records.trial import Trial


def compare(recorded: Results, again: Results) -> list[str]:
    """Return lines on how the environments differ, a line for each trial, and a summary line.

    A trial is compared on the reports that both sweeps have; equal means bit-identical. A trial
    that did not reach its recorded best report does not count as equal.

    Args:
        recorded: The earlier sweep.
        again: The sweep that repeats it.
    """
    rerun = again.record.rerun_of
    assert rerun is not None, "it repeats nothing"
    metric, equal, compared = recorded.history.metric, 0, 0
    lines = _surroundings(recorded, again)
    new = list(again.history.trials.values())
    for i, suggested in enumerate(rerun.trials):
        old = recorded.history.trials[suggested.trial]
        best = recorded.history.best(old)
        if best is None:
            lines.append(f"{old.id}: no recorded value")
            continue
        compared += 1
        pairs = _pairs(metric, old, new[i] if i < len(new) else None)
        different = [pair for pair in pairs if repr(pair[1]) != repr(pair[2])]
        line = f"{old.id}: {len(pairs)} of {len(old.reports)} recorded reports compared, all equal"
        if different:
            number, was, now = different[0]
            line = f"{old.id}: report {number} of {metric} was {was!r}, is now {now!r}"
        elif best.number not in {number for number, _, _ in pairs}:
            line = f"{old.id}: did not reach report {best.number}, its recorded best"
        else:
            equal += 1
        lines.append(line)
    if compared == 0:
        return [*lines, f"{metric} cannot be compared: no repeated trial has a recorded value"]
    verdict = "was reproduced exactly" if equal == compared else "was not reproduced exactly"
    return [
        *lines,
        f"{metric} {verdict}: {equal} of {compared} trials with a recorded value match those of"
        f" {recorded.folder.id}",
    ]


def _pairs(metric: str, old: Trial, new: Trial | None) -> list[tuple[int, float, float]]:
    """Return the number and both values of each report that a trial has in both sweeps."""
    values = {report.number: report.metrics[metric] for report in (new.reports if new else ())}
    return [
        (report.number, report.metrics[metric], values[report.number])
        for report in old.reports
        if report.number in values
    ]


def _surroundings(recorded: Results, again: Results) -> list[str]:
    """Return a line for each package that differs, and for the devices if they differ."""
    was, now = recorded.record.newest_versions, again.record.newest_versions
    lines = [
        f"{package} was {was.get(package, 'missing')}, is now {now.get(package, 'missing')}"
        for package in {**was, **now}
        if was.get(package) != now.get(package)
    ]
    if recorded.record.new_code:
        lines.append(
            "the recorded sweep switched to new code partway; this one uses it from the start"
        )
    old, new = recorded.history.devices, again.history.devices
    if old != new and old is not None:
        lines.append(f"the recorded sweep trained on {old}, this one on {new}")
    return lines
