"""Images of 16 x 16 pixels with stripes that run across (class 0) or down (class 1)."""

import numpy as np
import torch


def images(count: int, seed: int) -> list[dict]:
    """Rows with `pixel_values` (3, 16, 16) float32 and `labels`, classes in equal shares."""
    numbers = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        wave = np.sin(np.arange(16) * numbers.uniform(0.8, 2.0) + numbers.uniform(0, 6))
        image = np.tile(wave, (3, 16, 1)) + numbers.normal(0, 0.3, (3, 16, 16))
        if index % 2 == 0:
            image = image.transpose(0, 2, 1)
        pixels = torch.tensor(image, dtype=torch.float32)
        rows.append({"pixel_values": pixels, "labels": index % 2})
    return rows
