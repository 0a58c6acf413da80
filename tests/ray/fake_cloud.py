"""Ray's fake cloud, whose nodes stand on this machine, with a folder for each node.

Imported by Ray's autoscaler, by the name in a cluster's configuration.
"""

from __future__ import annotations

import functools
import tempfile
from typing import Any
from unittest.mock import patch

from ray._private import parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class FakeCloud(FakeMultiNodeProvider):
    """In a folder that nodes share, one takes the working folder away under the other (2.60)."""

    def _create_node_with_resources_and_labels(self, *args: Any) -> None:
        own = functools.partial(parameter.RayParams, temp_dir=tempfile.mkdtemp())
        with patch.object(parameter, "RayParams", own):
            super()._create_node_with_resources_and_labels(*args)
