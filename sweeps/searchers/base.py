"""The searcher contract: the protocol, and what every searcher observes.

Runs in the sweep process, and in `report` for the importance of arguments. It must not know about
any algorithm.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from sweeps.records.history import History
from sweeps.records.params_set import ParamsSet

Params: TypeAlias = dict[str, Any]
"""A value for every active argument of one trial."""


class Searcher(Protocol):
    """Proposes params. It observes only the history."""

    def propose(self, history: History) -> Params | None:
        """Return the params of the next params set, or None if there are no more.

        The result is the same for the same seed and history, so a resume continues as if
        uninterrupted.

        Raises:
            UserError: A constraint raises, or returns something other than True or False, or a Ray
                searcher suggests params that the space does not allow.
        """
        ...


def untrainable(params_set: ParamsSet) -> bool:
    """Tell whether a trial with these params diverged or ran out of memory.

    Such params are bad, whereas a trial that failed for another reason says nothing about its
    params.
    """
    return any(trial.untrainable for trial in params_set.trials)
