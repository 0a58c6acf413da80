"""The picture of `peers.py`: for each way, what each place on a device trained, over time.

It must not know how it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Lane = Sequence[tuple[float, float]]
"""Begin and end of each trial, in seconds after the command."""
WIDTH, LEFT, ROW, GAP = 900, 180, 14, 12
"""Pixels: the picture's width, the names' width, a lane's height, the space between two ways."""


def draw(ways: Mapping[str, tuple[float, Sequence[Lane]]]) -> str:
    """Return an SVG.

    Args:
        ways: The seconds of the whole command and the lanes of each way, by its name.
    """
    longest = max(total_s for total_s, _ in ways.values())
    scale = (WIDTH - LEFT - 60) / longest
    parts, y = [], GAP
    for name, (total_s, lanes) in ways.items():
        height = ROW * len(lanes)
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + height / 2 + 4}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{total_s * scale:.1f}" height="{height}"'
            ' fill="#e6e6e6"/>'
        )
        for row, lane in enumerate(lanes):
            for number, (begin, end) in enumerate(lane):
                parts.append(
                    f'<rect x="{LEFT + begin * scale:.1f}" y="{y + row * ROW + 1}"'
                    f' width="{max(0.5, (end - begin) * scale):.1f}" height="{ROW - 2}"'
                    f' fill="{("#4477aa", "#88aacc")[number % 2]}"/>'
                )
        parts.append(
            f'<text x="{LEFT + total_s * scale + 5:.1f}" y="{y + height / 2 + 4}">'
            f"{total_s:.0f} s</text>"
        )
        y += height + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}"'
            ' font-family="sans-serif" font-size="12">'
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )
