"""What a dry run tells the parsers of a script: values of a space, or the script's own values.

Runs in the process of a dry run. It must not know which script that is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Domain, Float

from sweeps.builders.scripts.program import Flag
from sweeps.builders.scripts.script_parsers import Convert, FlagValues, Parse, not_reached
from sweeps.errors import UserError
from sweeps.space.domains import ends, some_value
from sweeps.space.field_values import domain_problems


class Offered(FlagValues):
    """The values for a dry run. Unlike in a trial, a name may belong to no flag.

    Args:
        values: Values of flags, by name.
        domains: Domains of further flags; see `some_value` for the value that is used.
    """

    def __init__(self, values: Mapping[str, Any], domains: Mapping[str, Domain]) -> None:
        super().__init__(values)
        self._domains = domains
        self.own: dict[str, Any] = {}
        """The script's own values of these further flags, where known."""
        self._rejected: dict[str, list[str]] = {}
        """The problems with further values of their domains."""

    @property
    def tried(self) -> dict[str, Any]:
        """The values that these further flags have in the dry run."""
        return {name: self._values[name] for name in self._domains if name in self._values}

    def words(self, options: Mapping[str, Flag], parse: Parse) -> list[str]:
        """Record the options of a command line; return the words to add to it."""
        super().words(options, parse)
        self._choose(options)
        for name in options.keys() & self._domains:
            others = self._words(options, without=name)
            with suppress(Exception, SystemExit):  # raised if the script requires this flag
                own = plain_value(parse(others)[name])
                json.dumps(own)
                # The parser may turn it into another value, such as 5 into 0.05.
                if plain_value(parse([*others, *options[name].words(own)])[name]) == own:
                    self.own[name] = own
        self._choose(options)
        return self._words(options)

    def settings(self, options: Mapping[str, Flag], config: Mapping[str, Any]) -> dict[str, Any]:
        """Record the options of a config file; return the values that override it."""
        names = options.keys() & self._domains & config.keys()
        self.own |= {name: plain_value(config[name]) for name in names}
        self._choose(options)
        return super().settings(options, config)

    def compare(
        self,
        options: Mapping[str, Flag],
        parsed: Mapping[str, Any],
        convert: Convert,
        parse: Parse,
    ) -> None:
        """Record the values of domains, too, that the parser rejects or turns into others."""
        super().compare(options, parsed, convert, parse)
        with suppress(Exception, SystemExit):  # as click does if it would ask for a value
            parse(self._words(options))
            for name in options.keys() & self._domains:
                self._rejected[name] = list(self._rejections(name, options, convert, parse))

    def problem(self) -> UserError | None:
        """Return the error if a parser rejects a value or returns another; None if none does."""
        rejected = [problem for problems in self._rejected.values() for problem in problems]
        return next(iter(self._wrong.values()), None) or (UserError(rejected) if rejected else None)

    def misfit(self, whole: Sequence[str]) -> UserError | None:
        """Return the problems with ranges of fractions for flags that take only integers."""
        problems = [
            f"tuned[{name!r}]: {problem}"
            for name in whole
            if isinstance(domain := self._domains.get(name), Float)
            for problem in domain_problems(name, int, domain)
        ]
        return UserError(problems) if problems else None

    def _rejections(
        self, name: str, options: Mapping[str, Flag], convert: Convert, parse: Parse
    ) -> Iterator[str]:
        """Yield the problems with the values of a domain that the dry run does not use."""
        flag, others = options[name], self._words(options, without=name)
        for value in ends(self._domains[name]):
            if value == self._values[name]:
                continue
            try:
                got = parse([*others, *flag.words(value)]).get(name)
                problem = not_reached(flag, name, value, got, convert)
            except (Exception, SystemExit) as error:
                problem = f"the script rejects {name} = {value!r}: {str(error) or repr(error)}"
            if problem is not None:
                yield f"tuned[{name!r}]: {problem}"

    def _choose(self, options: Mapping[str, Flag]) -> None:
        for name in options.keys() & self._domains:
            own = [self.own[name]] if name in self.own else []
            self._values[name] = some_value(self._domains[name], *own)

    def _words(self, options: Mapping[str, Flag], without: str | None = None) -> list[str]:
        given = self._of(options)
        given.pop(without or "", None)
        return [word for name, value in given.items() for word in options[name].words(value)]


def plain_value(value: Any) -> Any:
    """Return a value of a flag or an argument as a space would hold it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
