"""Texts of other people's code, such as an exception's, in a form that can be written anywhere.

Pure; used in every process. It must not know where a text comes from.
"""

from __future__ import annotations


def encodable(text: str) -> str:
    r"""Return the text with `\udc80` spelled out for a lone surrogate, which UTF-8 cannot encode.

    Python makes one of a byte that is not UTF-8, for example in the name of a file.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def shortened(text: str, longest: int, whole: str) -> str:
    """Return the text; of one that is too long, its beginning, its end, and what is left out.

    Args:
        text: The text.
        longest: How many of its characters stay at most.
        whole: Where all of it is.
    """
    if len(text) <= longest:
        return text
    end = longest // 4
    left_out = f" … ({len(text) - longest:,} characters left out; see {whole}) … "
    return text[: longest - end] + left_out + text[-end:]
