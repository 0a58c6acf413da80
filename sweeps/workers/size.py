"""What one worker group takes of a cluster, and what Ray Data takes beside it.

Used in the sweep process. It must not know what the cluster holds.
"""

from __future__ import annotations

from dataclasses import dataclass

DATA_CPUS = 1
"""CPUs that Ray Data reads with, for each group that it streams rows to."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The workers of one group and what each takes."""

    workers: int
    cpus_per_worker: int
    gpus_per_worker: float
    data_cpus: int = 0
    """CPUs that are left to Ray Data beside the workers; 0 where no rows are streamed."""

    @property
    def devices(self) -> int:
        """GPUs of the group; its workers where there is no GPU."""
        gpus = self.gpus_per_worker * self.workers
        return max(1, round(gpus)) if gpus else self.workers
