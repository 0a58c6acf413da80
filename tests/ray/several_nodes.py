"""A Ray cluster of several nodes on this machine, in a process of its own.

Started by tests as `python several_nodes.py HEAD_CPUS NODE_CPUS...`. Prints its address and its
dashboard's in one line, then obeys lines on its standard input: `remove` kills the newest node at
once and prints `removed`. Ends, with all nodes, when its input ends.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    head_cpus, *node_cpus = (int(word) for word in sys.argv[1:])
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": head_cpus, "include_dashboard": True, "dashboard_port": 0},
    )
    nodes = [cluster.add_node(num_cpus=cpus) for cpus in node_cpus]
    print(cluster.address, cluster.webui_url, flush=True)
    for line in sys.stdin:
        if line.strip() == "remove":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("removed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
