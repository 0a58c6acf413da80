"""Any `ray.tune.search.Searcher` as a searcher, rebuilt by replaying the history.

Runs in the sweep process. It must not know which algorithm it wraps or use more of it than
`set_search_properties`, `suggest`, `on_trial_result`, `on_trial_complete` and
`add_evaluated_point`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ray.tune.result import TRAINING_ITERATION
from ray.tune.search import ConcurrencyLimiter, Repeater
from ray.tune.search import Searcher as RayTuneSearcher
from ray.tune.search.sample import Domain

from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.searchers.base import Params, untrainable
from sweeps.searchers.candidates import DRAWS, Candidates, identity
from sweeps.space import domains
from sweeps.space.conditions import branches, holds
from sweeps.space.plain_values import unboxed
from sweeps.space.search_space import SearchSpace, fixed_values

COMPARED = 3
"""Number of suggestions by which two new searchers are compared; the first may be a fixed point."""
INSTEAD = {ConcurrencyLimiter: "--max-concurrent", Repeater: "--repeats"}
"""Ray's wrappers, and the flag that does the same here."""
REFUSALS = (AssertionError, ImportError, RuntimeError, ValueError)
"""How Ray's searchers reject a domain, a missing package or missing properties (ray 2.60)."""


class RaySearcher:
    """Proposes what a Ray searcher suggests, under the rules of `Candidates`.

    The wrapped searcher observes the history as Tune would show it: a suggestion, each report, and
    the end of a trial, in the order of the log. A resume replays these, so a deterministic searcher
    continues as in an uninterrupted sweep. Params that it did not suggest (`first_params`,
    warm-start trials) are passed to `add_evaluated_point`, if it implements that.

    - When a params set ends, the searcher observes the metrics of its best report, with the mean
      over its trials as the judged metric. With repeats, it observes nothing before that, as with
      Ray's `Repeater`.
    - Rejected draws, and params that diverge or do not fit in memory, complete without a result.
      Params that fail for another reason, without any value, complete with `error=True`.

    Args:
        space: The search space, with no condition on a tuned argument.
        seed: The seed of the search.
        factory: A `Searcher` class, or a function that returns a searcher. Called as
            `factory(space=..., metric=..., mode=..., seed=...)`; `space` has the Ray domain of each
            argument, and is left out if the factory does not require it. The searcher then gets the
            domains through `set_search_properties` as well, as from Tune.
        warm_start: Trials of an earlier sweep.
        where: The flag that names the factory, for messages.
        note: Called with a line for the user.

    Raises:
        UserError: This searcher does not work for this sweep; the message says why.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        factory: Callable[..., Any],
        warm_start: Sequence[WarmStartTrial] = (),
        *,
        where: str,
        note: Callable[[str], None],
    ) -> None:
        self._space = space
        self._seed = seed
        self._factory = factory
        self._warm_start = warm_start
        self._where = where
        self._note = note
        self._differed = False
        self._domains = _flat_domains(space, where)
        self._candidates = Candidates(space, seed)
        self._check()
        self._replay = self._begin()

    def propose(self, history: History) -> Params | None:
        """See `Searcher.propose`."""
        if not self._replay.leads_to(history):
            self._replay = self._begin()
        return self._replay.propose(history)

    def _begin(self) -> _Replay:
        return _Replay(self._built(), self._domains, self._candidates, self._where, self._differs)

    def _differs(self, trial: str) -> None:
        """Report once that a replay does not suggest the params of a trial."""
        if not self._differed:
            self._differed = True
            self._note(
                f"{self._where}: replayed on this sweep's history, the searcher no longer suggests"
                f" the params of {trial}; the search continues with all results, but not exactly as"
                " without the interruption"
            )

    def _built(self) -> RayTuneSearcher:
        """Return a new searcher that has observed the warm-start trials and nothing else."""
        space = self._space
        given: dict[str, Any] = {"metric": space.metric, "mode": space.mode, "seed": self._seed}
        try:
            signature = inspect.signature(self._factory)
            if _requires_space(signature):
                given = {"space": dict(self._domains)} | given
            signature.bind(**given)
        except (TypeError, ValueError) as error:  # ValueError: the factory has no signature
            raise UserError(
                f"cannot be called with {', '.join(given)} ({error}); pass a function that accepts"
                " them and returns the searcher",
                self._where,
            ) from None
        try:
            searcher: RayTuneSearcher = self._factory(**given)
            self._refuse(searcher)
            searcher.set_search_properties(space.metric, space.mode, dict(self._domains))
            for trial in self._warm_start:
                searcher.add_evaluated_point(dict(trial.params), trial.value)
        except REFUSALS as error:
            text = " ".join(str(error).split()) or repr(error)
            raise UserError(text, self._where) from error
        return searcher

    def _refuse(self, searcher: Any) -> None:
        """Refuse anything that is not a searcher, or needs more than a searcher gets here."""
        kind, space = type(searcher).__name__, self._space
        if not isinstance(searcher, RayTuneSearcher):
            raise UserError(f"returns {searcher!r}, not a ray.tune.search.Searcher", self._where)
        for wrapper, flag in INSTEAD.items():
            if isinstance(searcher, wrapper):
                raise UserError(
                    f"returns a {kind}; return the searcher inside it, and use {flag}", self._where
                )
        hooks = sorted(
            name
            for name in dir(searcher)
            if name.startswith("on_") and not hasattr(RayTuneSearcher, name)
        )
        if hooks:
            raise UserError(
                f"{kind} relies on {' and '.join(hooks)}, but sweeps calls only suggest,"
                " on_trial_result and on_trial_complete; use another searcher",
                self._where,
            )
        for name, own, ours in (
            ("metric", searcher.metric, space.metric),
            ("mode", searcher.mode, space.mode),
        ):
            if own not in (None, ours):
                raise UserError(
                    f"the {name} of {kind} is {own!r}, but the space's {name} is {ours!r}; pass on"
                    f" the {name} that the factory receives",
                    self._where,
                )
        if self._warm_start and not _observes_points(searcher):
            raise UserError(
                f"--warm-start: {kind} does not implement add_evaluated_point, so it cannot observe"
                " the trials of an earlier sweep",
                self._where,
            )

    def _check(self) -> None:
        """Refuse a searcher without suggestions, or with different ones for the same seed."""
        one, other = (
            [suggested(searcher, f"check-{i}", self._domains, self._where) for i in range(COMPARED)]
            for searcher in (self._built(), self._built())
        )
        if one != other:
            raise UserError(
                f"two searchers with the same seed ({self._seed}) differ: they suggest {one} and"
                f" {other}, so a resumed sweep could not continue this search; pass the seed on to"
                " the search algorithm",
                self._where,
            )


class _Replay:
    """A Ray searcher, and the part of the history that it has observed."""

    def __init__(
        self,
        searcher: RayTuneSearcher,
        space: Mapping[str, Domain],
        candidates: Candidates,
        where: str,
        differs: Callable[[str], None],
    ) -> None:
        self._searcher = searcher
        self._domains = space
        self._candidates = candidates
        self._where = where
        self._differs = differs
        self._observed: list[ev.Event] = []
        self._had: set[str] = set()
        self._number = 0
        """Number of params sets so far."""
        self._ended: dict[str, int] = {}
        """Number of ended trials of each params set, by its id."""
        self._draws: dict[str, str] = {}
        """The searcher's id of the suggestion for each params set, by the id of the set."""
        self._next: tuple[str | None, Params | None] | None = None
        """The last proposal, which is not in the history yet: the id of the suggestion, and the
        params."""
        self._live: str | None = None
        """Id of the latest suggestion, unless it was rejected."""

    def leads_to(self, history: History) -> bool:
        """Tell whether this replay can continue to the end of this history.

        If not, a new replay is needed: the searcher has observed something else.
        """
        seen = len(self._observed)
        if history.course[:seen] != self._observed:
            return False
        to_come = history.course[seen:]
        return self._next is None or not to_come or _begins_set(to_come[0])

    def propose(self, history: History) -> Params | None:
        """Observe the rest of a history that this replay leads to, and return the next params."""
        for event in history.course[len(self._observed) :]:
            self._observed.append(event)
            self._observe(event, history)
        if self._next is None:
            self._next = self._drawn()
        return self._next[1]

    def _observe(self, event: ev.Event, history: History) -> None:
        match event:
            case ev.TrialSuggested(of=None):
                self._begin_set(event)
            case ev.Reported():
                draw = self._draws.get(event.report.trial)
                if draw is not None and history.repeats == 1:
                    result = {**event.report.metrics, TRAINING_ITERATION: event.report.number}
                    self._searcher.on_trial_result(draw, result)
            case ev.TrialEnded():
                self._end_trial(event.trial, history)

    def _begin_set(self, event: ev.TrialSuggested) -> None:
        draw, params = self._next or self._drawn()
        self._next = None
        self._number += 1
        self._had.add(identity(event.params))
        if params is not None and identity(params) == identity(event.params):
            if draw is not None:
                self._draws[event.trial] = draw
            return
        if draw is not None:
            self._searcher.on_trial_complete(draw)
        self._differs(event.trial)

    def _end_trial(self, trial: str, history: History) -> None:
        params_set = history.set_of(history.trials[trial])
        self._ended[params_set.id] = self._ended.get(params_set.id, 0) + 1
        if self._ended[params_set.id] < history.repeats:
            return
        draw = self._draws.get(params_set.id)
        value = None if untrainable(params_set) else params_set.mean
        if draw is None:
            if value is not None and _observes_points(self._searcher):
                self._searcher.add_evaluated_point(dict(params_set.params), value)
        elif value is None:
            self._searcher.on_trial_complete(draw, error=not untrainable(params_set))
        else:
            best = history.best(params_set.trials[0])
            assert best is not None, "it has a value"
            result = {**best.metrics, history.metric: value, TRAINING_ITERATION: best.number}
            self._searcher.on_trial_complete(draw, result)

    def _drawn(self) -> tuple[str | None, Params | None]:
        """Return the id of the suggestion, or None if there is none, and the next params."""
        number = self._number + 1

        def draws(_seed: int) -> Iterator[Params | None]:
            for i in range(DRAWS):
                self._live = f"params{number:03}-{i}"
                yield suggested(self._searcher, self._live, self._domains, self._where)
                self._searcher.on_trial_complete(self._live)
                self._live = None

        self._live = None
        params = self._candidates.choose(number, self._had, draws)
        return self._live, params


def suggested(
    searcher: RayTuneSearcher, draw: str, space: Mapping[str, Domain], where: str
) -> Params | None:
    """Return the suggestion of a searcher as plain values; None if it has finished.

    Raises:
        UserError: It cannot suggest anything, or suggests something that the space does not allow.
    """
    try:
        found = searcher.suggest(draw)
    except REFUSALS as error:
        raise UserError(f"suggest() raised {error!r}", where) from error
    if found == RayTuneSearcher.FINISHED:
        return None
    if found is None:
        raise UserError(
            "suggest() returned None: the searcher waits for results, but sweeps needs params now;"
            " remove the searcher's own limit on concurrent trials, and use --max-concurrent",
            where,
        )
    values = {key: unboxed(value) for key, value in found.items()}
    if values.keys() != space.keys():
        raise UserError(
            f"suggests values for {sorted(values)}, but {sorted(space)} are tuned", where
        )
    outside = [
        f"suggests {key} = {values[key]!r}, which is outside {domains.describe(domain)}"
        for key, domain in space.items()
        if not domains.contains(domain, values[key])
    ]
    if outside:
        raise UserError(outside, where)
    return {key: values[key] for key in space}


def _flat_domains(space: SearchSpace, where: str) -> dict[str, Domain]:
    """Return the domain of each active argument.

    Raises:
        UserError: A condition depends on a tuned key.
    """
    found, fixed = {}, fixed_values(space)
    problems = []
    for branch in branches(space.tuned):
        if conditional := [key for key in branch.condition if key in space.tuned]:
            problems.append(
                f"tuned[{branch.key!r}] depends on {' and '.join(conditional)}: a Ray searcher"
                " does not support conditions; use optuna or random"
            )
        elif holds(branch.condition, fixed):
            found[branch.key] = branch.domain
    if problems:
        raise UserError(problems, where)
    return found


def _requires_space(signature: inspect.Signature) -> bool:
    return any(
        p.kind is p.VAR_KEYWORD or (p.name == "space" and p.default is p.empty)
        for p in signature.parameters.values()
    )


def _observes_points(searcher: RayTuneSearcher) -> bool:
    return type(searcher).add_evaluated_point is not RayTuneSearcher.add_evaluated_point


def _begins_set(event: ev.Event) -> bool:
    return isinstance(event, ev.TrialSuggested) and event.of is None
