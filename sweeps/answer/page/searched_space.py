"""A search space rebuilt from a sweep's record: what is tuned and judged, without its builder.

Used by readers of a sweep. It must not run the user's code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sweeps.records.sweep_record import SpaceRecord
from sweeps.space.conditions import When
from sweeps.space.domains import parse
from sweeps.space.search_space import SearchSpace


def searched_space(record: SpaceRecord) -> SearchSpace:
    """Return a space with the recorded domains, conditions and fixed values; it builds nothing."""
    return SearchSpace(
        build_trainer=_build_nothing,
        metric=record.metric,
        mode=record.mode,
        tuned={
            key: [
                When(domain.condition, parse(str(replace(domain, condition={}))))
                for domain in domains
            ]
            for key, domains in record.tuned.items()
        },
        fixed={**record.fields, **record.fixed},
        evals_per_trial=record.evals_per_trial,
    )


def _build_nothing(args: Any) -> Any:
    raise AssertionError("a recorded space cannot build a trainer")
