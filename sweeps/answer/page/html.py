"""One HTML file with everything in it: the data, the styles, the script and the chart library.

Runs in any process. It must not know what the data means.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any, Literal

from sweeps.answer.answer import finite

ASSETS = Path(__file__).parent / "assets"


def render(kind: Literal["sweep", "comparison"], title: str, page: Any, static: str) -> str:
    """Return the page as HTML that makes no network requests.

    Args:
        kind: Which pictures the script draws.
        title: The page's title.
        page: A dataclass of what the page shows.
        static: HTML that replaces the pictures in programs that run no scripts.
    """
    data = {"kind": kind, **vars(page)}
    filled = {
        "title": html.escape(title),
        "data": in_script(data),
        "static": static,
        **{name: (ASSETS / name).read_text() for name in ("page.css", "page.js", "echarts.min.js")},
    }
    template = (ASSETS / "page.html").read_text()
    return re.sub(r"\{\{ (\S+) \}\}", lambda place: filled[place[1]], template)


def in_script(data: Any) -> str:
    """Return the data as JSON that cannot end its script: `<` is escaped, as in `</script>`."""
    text = json.dumps(finite(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
