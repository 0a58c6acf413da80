"""The resources that one worker group uses, and those that Ray Data uses in addition.

Used in the sweep process. It must not know what the cluster has.
"""

from __future__ import annotations

from dataclasses import dataclass

DATA_CPUS = 1
"""Number of CPUs that Ray Data uses for reading, per group that it streams rows to."""


@dataclass(frozen=True, kw_only=True)
class GroupSize:
    """The workers of one group, and the resources of each."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: float
    data_cpus: int = 0
    """CPUs reserved for Ray Data in addition to the workers; 0 if no rows are streamed."""

    @property
    def devices(self) -> int:
        """Number of GPUs of the group; the number of its workers if it has no GPU."""
        gpus = self.gpus_per_worker * self.workers
        return max(1, round(gpus)) if gpus else self.workers
