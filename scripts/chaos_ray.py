"""A Ray instance in a separate process, for a sweep or next to it: part of `chaos.py`.

`python chaos_ray.py TEMP_DIR CPUS` prints its address. Then it answers each line of its input with
what is alive on the instance, as JSON. When its input ends, it ends, along with all of Ray.
"""

from __future__ import annotations

import json
import logging
import sys

import ray
from ray.util.state import list_actors, list_placement_groups

LIMIT = 10_000
"""Maximum number of entries that Ray lists at once."""
RAYS_OWN = "_AutoscalingCoordinatorActor"
"""A detached actor that Ray Train leaves on every cluster that it runs on (ray 2.60)."""


def main() -> None:
    folder, cpus = sys.argv[1:]
    ray.init(
        address="local",
        num_cpus=int(cpus),
        include_dashboard=True,  # Ray Train's placement-group cleaner needs it
        dashboard_host="127.0.0.1",
        _temp_dir=folder,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    address = ray.get_runtime_context().gcs_address
    print(address, flush=True)
    for _ in sys.stdin:
        # By address, since there may be another Ray instance on the machine.
        groups = list_placement_groups(address, filters=[("state", "!=", "REMOVED")], limit=LIMIT)
        actors = list_actors(address, filters=[("state", "!=", "DEAD")], limit=LIMIT)
        left = [actor.class_name for actor in actors if actor.class_name != RAYS_OWN]
        print(json.dumps({"placement_groups": len(groups), "actors": left}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
