"""`Script`: an unmodified training script as a builder.

Created where a space is defined, and called in a worker or the model process, where it runs the
script up to `train()`. It must not know about the task of the script.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.builders.scripts.program import Program
from sweeps.errors import SweepError, UserError
from sweeps.naming import nearest
from sweeps.space.search_space import OWNED
from sweeps.space.user_code import is_own, shown

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from sweeps.builders.scripts.dry_run import Found

_KEPT = {*OWNED, "logging_steps", "run_name"} - {"output_dir"}
"""Arguments that are not passed to a script as flags, even if it has such flags."""
_MAIN = "__main__.py"
"""The file of a package that `python -m` runs."""


class Script:
    """Runs a training script up to its `train()`, and returns the trainer that it has created.

    Args:
        script: The path of a `.py` file, looked up next to the space and then in the working
            folder; or a module to run as `python -m` would, such as `trl.scripts.sft`.
        arguments: Its command line, which is overridden by what a space tunes or fixes: fields of
            the script's `TrainingArguments` are set when the script creates them, and other names
            are flags of the script.
    """

    makes_arguments = True
    path_fields = ()  # a worker runs in the folder that relative paths start from

    def __init__(self, script: str | Path, *arguments: object) -> None:
        self.script = str(script)
        self.command_line = tuple(map(str, arguments))
        self._program: Program | None = None
        self._found: Found | None = None
        self._reduced: Collection[str] = ()
        self.__name__ = self.script
        """Its name in messages."""

    def __repr__(self) -> str:
        words = ", ".join(map(repr, (self.script, *self.command_line)))
        if self._program is None:
            return f"Script({words})"
        return f"Script({words}) of sha256 {self.digest[:12]}"

    @property
    def program(self) -> Program:
        """The script, once it is located."""
        assert self._program is not None, "the script is not located"
        return self._program

    @property
    def script_file(self) -> Path:
        """The script."""
        return self.program.file

    @property
    def script_folder(self) -> Path | None:
        """The folder that the script's imports start from; None for a script from a library."""
        return self.program.root if self.program.is_own else None

    @property
    def digest(self) -> str:
        """The SHA-256 of the script."""
        return hashlib.sha256(self.program.file.read_bytes()).hexdigest()

    def located(self, places: Sequence[Path]) -> Script:
        """Return the same builder, with the script found below the first folder that has it.

        Raises:
            UserError: There is no such script.
        """
        found = copy.copy(self)
        if self.script.endswith(".py"):
            if Path(self.script).is_absolute():
                places = [Path("/")]
            files = [place / self.script for place in places]
            module = None
        else:
            names = [place.joinpath(*self.script.split(".")) for place in places]
            files = [end for name in names for end in (name / _MAIN, name.with_suffix(".py"))]
            module = self.script
        file = next((file for file in files if file.is_file()), None)
        if file is None and module is not None:
            file = _installed(module)
        if file is None:
            where = " and ".join(dict.fromkeys(str(shown(place)) for place in places))
            beside = sorted({each.name for wanted in files for each in wanted.parent.glob("*.py")})
            meant = nearest(Path(self.script).name, beside)
            raise UserError(f"Script({self.script!r}): no such script; looked in {where}{meant}")
        file = file.resolve()
        if module is not None and file.name == _MAIN:
            module = f"{module.removesuffix('.__main__')}.__main__"
        found._program = Program(file=file, module=module, is_own=is_own(str(file)))
        return found

    def moved(self, root: Path, copied: Path) -> Script:
        """Return the same builder, set to run the script from a copy of the folder `root`."""
        if not self.program.is_own:
            return self
        there = copy.copy(self)
        file = copied / self.program.file.relative_to(root)
        there._program = dataclasses.replace(self.program, file=file)
        return there

    def tried(
        self,
        flags: Mapping[str, Any],
        *,
        base: Path,
        kept: Path,
        note: Callable[[str], None],
        copy_code: Callable[[Path], Path] | None = None,
    ) -> Script:
        """Return the same builder with the arguments and flags that a dry run found.

        Raises:
            UserError: The script cannot be tuned.
        """
        from sweeps.builders.scripts.dry_run import dry_run

        known = copy.copy(self)
        known._found = dry_run(
            self.program,
            self.command_line,
            flags,
            base=base,
            kept=kept,
            where=self.script,
            copy_code=copy_code,
        )
        note(known.description)
        for block in known.found.blocks:
            note(
                f"{self.script}: {block}: train() is inside this block, whose end does not run in a"
                " trial; sweeps ends a tracker's run with the trial"
            )
        return known

    @property
    def found(self) -> Found:
        """The findings of its dry run."""
        assert self._found is not None, "the script has had no dry run"
        return self._found

    @property
    def description(self) -> str:
        """The findings of the dry run in one line."""
        found = self.found
        counts = {"to train on": found.train_rows, "to evaluate": found.eval_rows}
        rows = [f"{count:,} rows {use}" for use, count in counts.items() if count is not None]
        many = found.parameters >= 1e6
        size = f"{found.parameters / 1e6:,.1f} M" if many else f"{found.parameters:,}"
        has = ", ".join([f"{size} parameters", *rows])
        where = f" (line {found.line})" if found.line else ""
        return (
            f"{self.script}: {found.trainer} with {found.arguments}, {has}; each trial runs only"
            f" the part of the script before train(){where}, which took {found.seconds:.1f} s in a"
            " dry run"
        )

    @property
    def argument_class(self) -> type[TrainingArguments]:
        """The class of the script's arguments."""
        return self.found.argument_class

    @property
    def argument_values(self) -> Mapping[str, Any]:
        """The arguments that the script sets itself."""
        return self.found.values

    @property
    def ignored_arguments(self) -> Mapping[str, str]:
        """The arguments that the script's own optimizer or schedule ignores, with the reason."""
        return self.found.ignored

    @property
    def keyword_names(self) -> Collection[str]:
        """The script's flags that are not arguments."""
        fields = {field.name for field in dataclasses.fields(self.argument_class)}
        return self.found.flags.keys() - fields

    @property
    def spellings(self) -> Mapping[str, str]:
        """The flags by all their spellings."""
        return {key: name for name, flag in self.found.flags.items() for key in flag.spellings}

    @property
    def not_settable(self) -> Mapping[str, str]:
        """Parameters of the `__init__` of the script's argument class that are not its fields."""
        kind = self.found.arguments
        return {
            name: (
                f"a parameter of {kind}.__init__, but only fields count; make it one:"
                f" @dataclass class {kind}(...), with {name}: <type> = <default> in place of"
                " __init__"
            )
            for name in self.found.parameters_of_init
        }

    @property
    def keyword_values(self) -> Mapping[str, Any]:
        """The script's own values of the tuned flags, where known."""
        return self.found.flag_values

    @property
    def tried_values(self) -> Mapping[str, Any]:
        """The values that tuned flags had in the dry run."""
        return self.found.tried_values

    @property
    def metric_names(self) -> Collection[str] | None:
        """The metrics of the script, if they are known."""
        return self.found.metrics

    def count_rows(self) -> tuple[int | None, int | None]:
        """Return the number of rows that the script trains and evaluates on."""
        return self.found.train_rows, self.found.eval_rows

    @property
    def eval_sets(self) -> Mapping[str, int | None]:
        """The rows of each evaluation set, by name, if there are several."""
        return self.found.eval_sets

    def with_fewer_rows(self, phases: Collection[str]) -> Script:
        """Return the same builder, set to use fewer rows per device in these phases."""
        reduced = copy.copy(self)
        reduced._reduced = phases
        return reduced

    def __call__(self, values: Mapping[str, Any], **flags: Any) -> Trainer:
        """Return the trainer that the script was about to train."""
        from sweeps.builders.scripts.script_parsers import FlagValues
        from sweeps.builders.scripts.script_run import Ending, run_script
        from sweeps.builders.scripts.values_in_script import not_given

        # A script may use a flag for more than its arguments, so the words are passed, too.
        known = self.found.flags
        said = {
            name: known[name].words(value)
            for name, value in {**values, **flags}.items()
            if name in known.keys() - _KEPT
        }
        trainer = run_script(
            self.program,
            [*self.command_line, *itertools.chain(*said.values())],
            values,
            flag_values=FlagValues(
                {name: value for name, value in values.items() if said.get(name)} | flags
            ),
            ending=Ending(),
            reduced=self._reduced,
            ours={*OWNED, "run_name"} - {"report_to"},
        )
        args: TrainingArguments = trainer.args
        if missing := not_given(values, args):
            raise UserError(
                f"{self.script}: {type(args).__name__} has no {', '.join(missing)}; in the dry run,"
                " the script created arguments of another class; it must create the same class in"
                " every run"
            )
        if args.output_dir != values["output_dir"]:
            raise SweepError(
                f"{self.script}: its arguments contain none of the trial's values, because they"
                f" were not created by calling {type(args).__name__}(...); create them that way"
            )
        return trainer


def _installed(module: str) -> Path | None:
    """Return the file that is run for an installed module."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
