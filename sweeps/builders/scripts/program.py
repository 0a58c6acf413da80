"""What a script is: the file that Python runs, and the options of its command line.

It must not import torch or transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Program:
    """What Python runs as the main module."""

    file: Path
    module: str | None
    """The module's name, if the script is run as with `python -m`."""
    is_own: bool
    """Whether it is the user's own code rather than a library's."""

    @property
    def root(self) -> Path:
        """The folder that its imports start from."""
        return self.file.parents[self.module.count(".") if self.module else 0]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """An option of a script's command line."""

    option: str | None
    """The option as it is written: `--lora-r`; None if there is only one that turns it off."""
    spellings: Sequence[str] = ()
    """All its options as keys: `lora_r`."""
    off: str | None = None
    """The option that turns it off: `--no-bias`."""
    takes_value: bool = True
    may_be_empty: bool = False
    """Whether the option may stand without a value, for an empty list."""
    in_config: bool = False
    """Whether it is read from a config file rather than the command line."""

    def words(self, value: Any) -> list[str]:
        """Return the words that set it to a value."""
        if value is None or self.in_config:
            return []
        if not self.takes_value:
            option = self.option if value else self.off
            return [] if option is None else [option]
        assert self.option is not None, "only a flag without a value lacks it"
        if isinstance(value, list | tuple):
            if not value and not self.may_be_empty:
                return []
            return [self.option, *map(str, value)]
        return [f"{self.option}={value}"]  # as a separate word, `-5e-05` would be an option
