"""A Ray cluster of several nodes on this machine, in a process of its own.

Started by tests as `python several_nodes.py FOLDER HEAD_CPUS NODE_CPUS...`. Prints its address,
its dashboard's and the newest node's id in one line, then obeys lines on its standard input:
`remove` kills the newest node at once and prints `removed`; `add` adds one like it and prints its
id. Ends, with all nodes, when its input ends.
"""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray.cluster_utils import Cluster

from sweeps.driver.local_ray import quick_workers


def main() -> None:
    folder, head_cpus, *node_cpus = sys.argv[1:]
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": int(head_cpus),
            "memory": 1,  # bytes: those who use the cluster may have taken the rest
            "include_dashboard": True,
            "dashboard_port": 0,
            # Any free one: the usual one belongs to the Ray of the other tests, and a head whose
            # agent has none takes no submitted jobs (ray 2.60).
            "dashboard_agent_listen_port": 0,
        },
    )
    nodes: list[Node] = []

    def add(cpus: str) -> None:
        # A folder each, as on machines of their own: in a shared one, a node that unpacks a working
        # folder takes it away under the others' processes (ray 2.60).
        number = len(nodes)
        nodes.append(cluster.add_node(num_cpus=int(cpus), temp_dir=f"{folder}/{number}"))

    for cpus in node_cpus:
        add(cpus)
    print(cluster.address, cluster.webui_url, nodes[-1].node_id, flush=True)
    for line in sys.stdin:
        if line.strip() == "remove":
            cluster.remove_node(nodes[-1], allow_graceful=False)
            print("removed", flush=True)
        else:
            add(node_cpus[-1])
            print(nodes[-1].node_id, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    with quick_workers():  # `ray start` in test_growing.py has Ray's own set-up of workers
        main()
