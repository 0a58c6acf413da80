"""The builder contract: the members that a builder may have.

Read wherever a builder is checked or called; `adapted.py` gives defaults for members that a builder
lacks. It must not know about any shipped builder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

STREAM = "stream"
"""The keyword that turns streaming on; see `Builder.stream`."""
EVAL = "eval_"
"""The prefix that HF adds to the names of evaluation metrics."""
DATA = "data"
"""The parameter of `__call__` that receives the result of `prepare()`."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """How `transformers.pipeline` serves the trained model: text in, `answer` out."""

    task: str
    """The name of the pipeline, such as `text-classification`."""
    answer: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Columns of the answer, each name with its MLflow type (`string`, `double`); empty: text."""


class Builder(Protocol):
    """Makes a `Trainer`; a search space refers to it as `build_trainer`.

    Only `__call__` is required, so any function is a builder. All other members are optional. The
    keywords that a space can tune or fix are the fields of a dataclass, or all parameters of a
    function except the first.
    """

    def __call__(self, args: TrainingArguments, **kwargs: Any) -> Trainer:
        """Return a `Trainer` with a new model. Runs in a worker, after the seed is set.

        A builder with `prepare()` gets its result as `data`.
        """

    def check(self) -> None:
        """Raise `UserError` with everything that is wrong; must be cheap.

        Called in the sweep process before Ray starts, once per choice of a tuned keyword.
        """

    def pin(self) -> Builder:
        """Return the same builder with the current Hub revisions pinned to commits."""

    def prepare(self) -> Any:
        """Return the data, an object with `train` and `eval`; `__call__` receives it as `data`.

        Called in the sweep process for each choice of the keywords that it reads, and in each
        worker for each trial: the first call keeps its result in files, where the others find it.
        """

    def tiny(self) -> Builder:
        """Return the same builder with a model and data that train in seconds, for `--tiny`."""

    def on_test(self) -> Builder:
        """Return the same builder, set to evaluate the test split in place of the held-out rows.

        Only `export --test` calls it.
        """

    def count_rows(self) -> tuple[int | None, int | None]:
        """Return the numbers of rows to train and to evaluate on, each None if not known."""

    @property
    def data_fields(self) -> Collection[str]:
        """The keywords that `prepare()` reads; default: all."""

    @property
    def path_fields(self) -> Collection[str]:
        """The keywords that may hold a path, which workers receive as an absolute path.

        Default: all, but of a function only values with a `/`: a bare word may be the name of a
        split or a column, and a function is called only where trials run.
        """

    @property
    def stream(self) -> bool:
        """Whether Ray Data streams the prepared train rows to the workers.

        Must also be a keyword of the builder.
        """

    @property
    def revisions(self) -> Mapping[str, str]:
        """The commits that `pin()` found, which a resume keeps.

        Must also be a keyword of the builder.
        """

    @property
    def metric_names(self) -> Collection[str]:
        """All metrics that the evaluation returns, including `loss`, with or without `eval_`.

        With several evaluation sets, names such as `eval_SET_loss`. A space that is judged by any
        other metric is refused. Without this member, or if a subclass has its own `__call__`, the
        smoke run checks the metric.
        """

    @property
    def pipeline(self) -> Pipeline:
        """How the trained model is served.

        Without this member, the model logged to MLflow has no `predict`.
        """


class ScriptBuilder(Builder, Protocol):
    """What a builder that runs a user's script has in addition; see `builders/scripts/script.py`.

    It creates the arguments itself, from the values of a trial.
    """

    @property
    def makes_arguments(self) -> bool:
        """Whether the builder creates the arguments itself, as a script does.

        It is then called with a dict of the values that they must have, in place of `args`.
        """

    def with_fewer_rows(self, phases: Collection[str]) -> Builder:
        """Return the same builder, set to use fewer rows per device in these phases.

        Called in a worker after memory ran out, for a builder that creates the arguments itself:
        only that builder knows the rows of the trial. The total batch stays the same.
        """

    @property
    def argument_class(self) -> type[TrainingArguments]:
        """The class of the arguments; default: the class in the annotation."""

    @property
    def argument_values(self) -> Mapping[str, Any]:
        """Values of arguments that the builder sets unless the space does."""

    @property
    def ignored_arguments(self) -> Mapping[str, str]:
        """Arguments that have no effect, each with the reason; a space cannot set them."""

    @property
    def eval_sets(self) -> Mapping[str, int | None]:
        """The rows of each evaluation set, by name, if there are several; None if not known."""

    @property
    def keyword_names(self) -> Collection[str]:
        """The keywords that can be tuned or fixed, if the signature does not show them."""

    @property
    def spellings(self) -> Mapping[str, str]:
        """The keys of a space by their other spellings, for messages."""

    @property
    def not_settable(self) -> Mapping[str, str]:
        """What looks like a key of a space and is none, each with the reason."""

    @property
    def keyword_values(self) -> Mapping[str, Any]:
        """Values that tuned keywords have unless the space sets them, where known."""

    @property
    def tried_values(self) -> Mapping[str, Any]:
        """Values that tuned keywords had in the dry run."""

    @property
    def command_line(self) -> Sequence[str]:
        """The command line that it runs a script with, as a list of words."""

    def located(self, places: Sequence[Path]) -> Builder:
        """Return the same builder with its files located below the first folder that has them.

        Called in the sweep process, before any other member.
        """

    def moved(self, root: Path, copy: Path) -> Builder:
        """Return the same builder, set to read its files below `root` from their copy.

        Called in a worker.
        """

    @property
    def script_file(self) -> Path | None:
        """The file that the builder runs."""

    @property
    def script_folder(self) -> Path | None:
        """The user's folder that this file needs; it is copied along with the code of the space."""

    def tried(
        self,
        flags: Mapping[str, Any],
        *,
        base: Path,
        kept: Path,
        note: Callable[[str], None],
        copy_code: Callable[[Path], Path] | None = None,
    ) -> Builder:
        """Return the same builder with the arguments and keywords that a dry run found.

        Called in the sweep process.

        Args:
            flags: The values and domains that the space sets.
            base: The folder that trials run in.
            kept: The folder where it keeps its findings.
            note: Called with a line about what it does.
            copy_code: Copies the user's code to below a folder, under the whole path that it has,
                and returns the copy of the script; None: it runs where it is.

        Raises:
            UserError: It does not create a trainer that can be tuned.
        """
