"""Shows where the time of a sweep goes: python scripts/bench/timeline.py results/<sweep id>

Prints the seconds from the start of the log to the first `Trainer.train()`, those of each
`train()`, the gaps from one to the next on the same group, and how busy the groups were.
"""

import itertools
import statistics
import sys
from pathlib import Path

from sweeps.records.event_log import read_events
from sweeps.records.events import AttemptEnded, JobStarted, Reported, SweepEnded


def trains(log: Path) -> tuple[float, float, dict[int, list[tuple[float, float]]]]:
    """Return (log start, log end, (begin, end) of each `Trainer.train()` by group), Unix time."""
    group_of: dict[str, int] = {}
    begin_of: dict[str, float] = {}
    spans: dict[int, list[tuple[float, float]]] = {}
    times = []
    for event, _ in read_events(log):
        times.append(event.time)
        match event:
            case JobStarted():
                group_of[event.trial] = event.group
            case Reported() if event.report.trial not in begin_of:
                # By the clock of the report: the evaluation ended `train_s` seconds after train()
                # began.
                begin_of[event.report.trial] = event.time - event.report.train_s
            case AttemptEnded(outcome="done"):
                begin = begin_of[event.trial]
                spans.setdefault(group_of[event.trial], []).append((begin, begin + event.train_s))
            case SweepEnded():
                break
    return times[0], times[-1], spans


def main() -> None:
    start, end, spans = trains(Path(sys.argv[1]) / "events.jsonl")
    first = min(begin for group in spans.values() for begin, _ in group)
    gaps = [
        later[0] - earlier[1]
        for group in spans.values()
        for earlier, later in itertools.pairwise(group)
    ]
    busy = sum(stop - begin for group in spans.values() for begin, stop in group)
    print(f"first train() after   {first - start:7.2f} s")
    for number, group in sorted(spans.items()):
        seconds = ", ".join(f"{stop - begin:.1f}" for begin, stop in group)
        print(f"each train() on group {number}: {seconds} s")
    if gaps:
        print(f"gaps ({len(gaps)})  median {statistics.median(gaps):7.2f} s, max {max(gaps):.2f} s")
    print(f"log from end to end   {end - start:7.2f} s")
    print(f"busy, first train() on {100 * busy / (end - first) / len(spans):6.1f} %")


if __name__ == "__main__":
    main()
