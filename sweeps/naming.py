"""Names that people type: found in full or by a unique prefix, or refused with one message.

Used in every process. It must not know what a name refers to.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sweeps.errors import UserError

SHOWN = 6
"""Maximum number of names that most messages list."""


def some(names: Sequence[str], limit: int = SHOWN, last: str = ", ") -> str:
    """Return the names as text; of many, the first ones and how many more there are.

    Args:
        names: The names, those first that are most likely to be meant.
        limit: How many of them are shown at most.
        last: What stands before the last name, if all are shown.
    """
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return last.join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return `; did you mean …?`, or nothing if no valid name is similar."""
    near = difflib.get_close_matches(name, valid, n=2)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(
    kind: str, name: str, valid: Sequence[str], *, place: str = "", known: str | None = None
) -> str:
    """Return the message for a name that does not exist.

    Args:
        kind: What the name should refer to: `sweep`, `tracker`.
        name: As it was typed.
        valid: The names that exist.
        place: Where the names are looked up.
        known: The valid names as text; None: all of them.
    """
    where = f" in {place}" if place else ""
    if not valid:
        return f"no {kind} named {name!r}{where}: there are no {kind}s yet"
    return (
        f"no {kind} named {name!r}{where}; available:"
        f" {known or ', '.join(valid)}{nearest(name, valid)}"
    )


def pick(kind: str, name: str, valid: Sequence[str], *, place: str, known: str) -> str:
    """Return the valid name that equals `name`, or the only one that begins with it.

    Args:
        kind: See `unknown`.
        name: As it was typed.
        valid: The names that exist, those first that are most likely to be meant.
        place: Where the names are looked up.
        known: The valid names as text.

    Raises:
        UserError: No valid name begins with `name`, or several do.
    """
    if name in valid:
        return name
    begun = [each for each in valid if name and each.startswith(name)]
    if len(begun) > 1:
        raise UserError(
            f"{name!r} matches several {kind}s; use a longer prefix of one: {some(begun)}"
        )
    if not begun:
        raise UserError(unknown(kind, name, valid, place=place, known=known))
    return begun[0]
