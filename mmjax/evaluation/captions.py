"""Captions: what a system says about pictures it is shown, against what a person wrote.

Words are lower-cased and split at white space, and counted with repetition; F1 is the harmonic mean of the
shares of words found, averaged over records.

- `word_f1` counts every word. Where all references share words ('skin tone', where all pictures are people of
  some skin tone) even the caption of another picture scores 0.44.
- `content_word_f1` leaves out the words that every reference of the split contains, as question answering
  leaves out articles: saying them takes no look at the picture.
- `shuffled_*`: every caption is scored against the reference of another record, as if the system had been
  shown a wrong picture. A system that ignores the picture scores the same with and without.
"""

import collections
import dataclasses
from collections.abc import Sequence, Set

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.data.templates import Template
from mmjax.evaluation import statistics
from mmjax.evaluation.passes import ability, over


def words(text: str) -> list[str]:
    """Lower-cased, split at white space."""
    return text.lower().split()


def word_f1(said: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two bags of words; 0 where either is empty.

    Example: said 'a red cat', reference 'red cat sleeping now' -> precision 2/3, recall 2/4, F1 4/7.
    """
    shared = sum((collections.Counter(said) & collections.Counter(reference)).values())
    return 2 * shared / max(len(said) + len(reference), 1)


def shared_words(references: Sequence[str]) -> Set[str]:
    """The words that every reference contains; none where all references are one and the same."""
    if len(set(references)) < 2:
        return frozenset()
    return frozenset.intersection(*(frozenset(words(reference)) for reference in references))


def score(said: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """exact_match, word_f1, content_word_f1; means over the records, with their intervals.

    A reference that consists of shared words only does not enter the mean of content_word_f1.
    """
    pairs = [(words(one), words(other)) for one, other in zip(said, references, strict=True)]
    common = shared_words(references)
    contents = [tuple([word for word in side if word not in common] for side in pair) for pair in pairs]
    return {
        **statistics.mean("exact_match", [one == other for one, other in pairs]),
        **statistics.mean("word_f1", [word_f1(*pair) for pair in pairs]),
        **statistics.mean("content_word_f1", [word_f1(*pair) for pair in contents if pair[1]] or [0.0]),
    }


def another(count: int, key: jax.Array) -> np.ndarray:
    """i32[count]: for each record a different one, at random: a single cycle through all of them."""
    order = np.asarray(jax.random.permutation(key, count))
    result = np.empty(count, np.int32)
    result[order] = np.roll(order, 1)
    return result


@dataclasses.dataclass(frozen=True)
class Described:
    """A split and what was said about it: index i32[N], said and references N strings each."""

    index: np.ndarray
    said: list[str]
    references: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captions:
    """Greedy captions of a split, scored; see the module.

    template: the layout the system was trained with; what comes before `{caption}` is the prompt.
    length: most tokens of a caption; None for what `data.text_length` leaves after the prompt.
    """

    batch_size: int = 64
    length: int | None = None
    template: str = "<bos><image>{caption}<eos>"

    def __call__(self, system, params, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system writes no captions. The key chooses the shuffled partners."""
        return self.score(self.describe(system, params, pipeline), key=key)

    def describe(self, system, params, pipeline: Pipeline) -> Described:
        """One caption for every good record."""
        caption = ability(system, "caption")
        prompt = Template(self.template).prompt(pipeline.tokenizer)
        length = self.length or pipeline.config.text_length - len(prompt["tokens"])

        def write(params, batch):
            rows = len(batch["image"])
            tokens, segment = (jnp.tile(prompt[name], (rows, 1)) for name in ("tokens", "segment"))
            greedy = jax.random.key(0)  # never read: temperature is 0
            return caption(
                params, batch["image"], batch["image_valid"], tokens, segment, greedy, length=length
            )

        names = ("image", "image_valid")
        index, ids = over(pipeline, write, params, batch_size=self.batch_size, names=names)
        references = pipeline.captions
        said = [pipeline.tokenizer.decode(row) for row in ids]
        return Described(index, said, [references[number] for number in index])

    def score(self, described: Described, *, key: jax.Array) -> dict[str, float]:
        """The figures and their controls; `count` is the number of records.

        A caption depends on the picture alone, so the caption of a shuffled picture is the one that was
        written for it in its own place: no second pass.
        """
        partner = another(len(described.said), key)
        shuffled = score([described.said[other] for other in partner], described.references)
        return {
            "count": len(described.said),
            **score(described.said, described.references),
            **{f"shuffled_{name}": value for name, value in shuffled.items()},
        }
