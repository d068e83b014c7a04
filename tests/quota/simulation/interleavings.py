"""An explicit-state checker: it tries every order in which several actors can take their steps.

An actor is a list of steps. A step is atomic: it changes the world, or ends the actor's work. `explore` visits the
states breadth first, and each once, however many orders lead to it. So the first state that breaks a rule has the
shortest history, and that is told step by step.
"""

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Memory = dict[str, Any]
"""What an actor remembers from one step to the next."""
Rule = Callable[[Any], list[str]]
"""Says what is wrong with a world, in words."""


class Over(Exception):
    """The actor has nothing more to do. The argument says why."""


@dataclass(frozen=True)
class Step:
    name: str
    run: Callable[[Any, Memory], str]
    """Changes the world and the actor's memory, and says what came of it. Raises Over."""


@dataclass(frozen=True)
class Actor:
    name: str
    steps: Sequence[Step]
    may_die: bool = False
    """Whether it can die before any of its steps, as by `kill -9`."""


@dataclass
class Explored:
    states: int
    ends: int
    """States in which every actor is done or dead."""
    wrong: list[str]
    """What is wrong in the first state that breaks a rule. Empty: no state does."""
    history: list[str]
    """The shortest way there, a line for each step."""

    def __str__(self) -> str:
        if not self.wrong:
            return f"No rule is broken in {self.states:,} states."
        steps = [f"{number:3}. {line}" for number, line in enumerate(self.history, start=1)]
        return "\n".join([f"Broken after {len(steps)} steps: {'; '.join(self.wrong)}.", *steps])


@dataclass
class _State:
    world: Any
    positions: list[int]  # of each actor; -1: it is done or dead
    memories: list[Memory]
    deaths: int = 0


def explore(world: Any, actors: Sequence[Actor], *, always: Rule, in_the_end: Rule, max_deaths: int = 1) -> Explored:
    """Tries every order. `always` is asked about every state; `in_the_end` when every actor is done or dead."""
    start = pickle.dumps(_State(world, [0] * len(actors), [{} for _ in actors]))
    came_from: dict[bytes, tuple[bytes, str] | None] = {start: None}
    waiting, ends = deque([start]), 0
    while waiting:
        here = waiting.popleft()
        state: _State = pickle.loads(here)  # noqa: S301 (our own)
        wrong = always(state.world)
        if all(position < 0 for position in state.positions):
            ends += 1
            wrong = wrong or in_the_end(state.world)
        if wrong:
            return Explored(len(came_from), ends, wrong, list(_history(came_from, here)))
        for number, actor in enumerate(actors):
            if state.positions[number] < 0:
                continue
            for after, line in _after(here, number, actor, max_deaths):
                if after not in came_from:
                    came_from[after] = (here, f"{actor.name} {line}")
                    waiting.append(after)
    return Explored(len(came_from), ends, [], [])


def _after(here: bytes, number: int, actor: Actor, max_deaths: int) -> Iterator[tuple[bytes, str]]:
    """The states that one step, or the death, of this actor leads to."""
    state: _State = pickle.loads(here)  # noqa: S301 (our own)
    if actor.may_die and state.deaths < max_deaths:
        state.deaths += 1
        position, state.positions[number] = state.positions[number], -1
        memory, state.memories[number] = state.memories[number], {}
        yield pickle.dumps(state), "dies"
        state.deaths, state.positions[number], state.memories[number] = state.deaths - 1, position, memory
    step = actor.steps[state.positions[number]]
    try:
        said = step.run(state.world, state.memories[number])
        state.positions[number] += 1
    except Over as over:
        said, state.positions[number] = str(over), len(actor.steps)
    if state.positions[number] == len(actor.steps):
        state.positions[number], state.memories[number] = -1, {}
    yield pickle.dumps(state), f"{step.name}: {said}"


def _history(came_from: dict[bytes, tuple[bytes, str] | None], end: bytes) -> Iterator[str]:
    lines = []
    while (before := came_from[end]) is not None:
        end, line = before
        lines.append(line)
    return reversed(lines)
