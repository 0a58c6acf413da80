"""Names that people type: found whole or by a unique beginning, or refused in one form of words.

Used in every process. It must not know what a name stands for.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sweeps.errors import UserError


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return `; did you mean …?`, or nothing if no valid name is near."""
    near = difflib.get_close_matches(name, valid, n=2)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(
    kind: str, name: str, valid: Sequence[str], *, place: str = "", known: str | None = None
) -> str:
    """Return the message about a name that stands for nothing.

    Args:
        kind: What it should stand for: `sweep`, `tracker`.
        name: As it was typed.
        valid: The names that there are.
        place: Where they are looked for.
        known: The valid names in words; None: all of them.
    """
    where = f" in {place}" if place else ""
    if not valid:
        return f"no {kind} {name!r}{where}, which has no {kind}s yet"
    return f"no {kind} {name!r}{where}; known: {known or ', '.join(valid)}{nearest(name, valid)}"


def pick(kind: str, name: str, valid: Sequence[str], *, place: str, known: str) -> str:
    """Return the valid name that this is, or the only one that begins like this.

    Args:
        kind: See `unknown`, as for the others.
        name: As it was typed.
        valid: The names that there are.
        place: Where they are looked for.
        known: The valid names in words.

    Raises:
        UserError: There is none, or several begin like this.
    """
    if name in valid:
        return name
    begun = [each for each in valid if name and each.startswith(name)]
    if len(begun) > 1:
        raise UserError(f"{name!r} matches several {kind}s: {', '.join(begun)}")
    if not begun:
        raise UserError(unknown(kind, name, valid, place=place, known=known))
    return begun[0]
