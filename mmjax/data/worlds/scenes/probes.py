"""POPE-style probes (Li et al. 2023): is an object there? What is not there is drawn three ways.

random: any object of the world. popular: one of those that the most training scenes hold. adversarial: one of
those that most often keep company, in training scenes, with an object that is there.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import random
from collections.abc import Iterable

from mmjax.data.worlds.scenes.questions import Question
from mmjax.data.worlds.scenes.scene import Scene, Scenes
from mmjax.data.worlds.scenes.vocabulary import article

STRATEGIES = ("random", "popular", "adversarial")
POPULAR, COMPANY = 10, 3  # how many of the commonest to draw from


@dataclasses.dataclass(frozen=True)
class Company:
    """How many scenes hold an object, and how many hold two together."""

    frequency: collections.Counter
    pairs: dict[str, collections.Counter]

    @classmethod
    def of(cls, scenes: Iterable[Scene]) -> Company:
        frequency, pairs = collections.Counter(), collections.defaultdict(collections.Counter)
        for scene in scenes:
            names = [thing.name for thing in scene.things]
            frequency.update(names)
            for name in names:
                pairs[name].update(other for other in names if other != name)
        return cls(frequency, pairs)

    def absent(self, scene: Scene, strategy: str, rng: random.Random) -> str:
        """An object that the scene does not hold, by one of STRATEGIES."""
        held = {thing.name for thing in scene.things}
        others = [name for name in self._popular if name not in held]
        if strategy == "random":
            return rng.choice(others)
        if strategy == "popular":
            return rng.choice(others[:POPULAR])
        company = _ranked(self.pairs[rng.choice(scene.things).name])
        return rng.choice(([name for name in company if name not in held] or others)[:COMPANY])

    @functools.cached_property
    def _popular(self) -> list[str]:
        return _ranked(self.frequency)


@functools.lru_cache(maxsize=4)
def company(scenes: Scenes, count: int) -> Company:
    """The company that objects keep in the first `count` training scenes."""
    return Company.of(scenes.scene("train", index) for index in range(count))


def probe(scene: Scene, company: Company, strategy: str, answer: str, rng: random.Random) -> Question:
    """A question whose answer is 'yes' or 'no', as asked for."""
    name = rng.choice(scene.things).name if answer == "yes" else company.absent(scene, strategy, rng)
    return Question(kind=strategy, text=f"Is there {article(name)} in the image?", answers=(answer,))


def _ranked(counter: collections.Counter) -> list[str]:
    return sorted(counter, key=lambda name: (-counter[name], name))
