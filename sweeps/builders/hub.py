"""Tells local folders from Hub names, and says what to do when the Hub lacks a repository.

Called in the sweep process before Ray starts, in the workers, in an export and by trackers. It must
not know about rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sweeps.errors import UserError

LFS_POINTER = b"version https://git-lfs"
"""The first bytes of a file whose content Git LFS has not fetched."""


def is_hub_name(name: str) -> bool:
    """Tell whether `name` is a Hub repository: `NAME` or `OWNER/NAME`, and not a local path."""
    return not Path(name).exists() and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None


def no_folder(field: str, path: str) -> UserError:
    """Return the error for a local path that is not a folder."""
    what = (
        "this is a file; use the folder that contains it"
        if Path(path).exists()
        else "no such folder"
    )
    return UserError(f"{field}={path!r}: {what}")


def not_fetched(files: Iterable[Path]) -> str | None:
    """Return the message for the first file that Git LFS has not fetched; None if there is none."""
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(LFS_POINTER)) == LFS_POINTER:
                    return (
                        f"{path}: this is a Git LFS pointer, not the data; run `git lfs pull` in"
                        " its repository"
                    )
    return None


def hub_answers() -> bool:
    """Tell whether the Hub answers within 5 seconds.

    The Hub's own client would try for at least 23 seconds.
    """
    import ssl
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:  # the Hub's own client may accept its certificate
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


def not_on_the_hub(wanted: str, error: BaseException | None = None) -> UserError:
    """Return the error for a name that is neither a folder nor available on the Hub.

    Args:
        wanted: Field and value, such as `model='a/b'`.
        error: The error of the Hub's client; None: the Hub was not asked, or does not answer.
    """
    from huggingface_hub import constants

    why = "is disabled by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "cannot be reached"
    if error is not None:
        why = f"does not provide it ({reason(error)})"
    return UserError(
        f"{wanted}: not a local folder, and the Hub {why}; use local folders (model=DIR"
        " dataset=DIR), or try the sweep with --tiny"
    )


def reason(error: BaseException) -> str:
    """Return the first two sentences of a library's error: one line, at most 300 characters."""
    sentences = " ".join(str(error).split()).split(". ")
    text = ". ".join(sentences[:2]).removesuffix(".") or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
