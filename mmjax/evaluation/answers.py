"""Short answers to questions about pictures, beside what the questions alone give away.

An answer is right if it equals one of the accepted ones after the normalisation of VQA (`vqa.normalize`).
Each kind of question has three figures:

- `accuracy_<kind>`: of the system.
- `text_only_<kind>`: of the best answerer that sees no picture: the most frequent answer of the training
  split to this very question; to a question it has not seen, the most frequent one to its kind.
- `shuffled_<kind>`: of the system when every question comes with the picture of another record. A system
  that ignores the picture scores the same with and without.

The records are conversations whose facts hold the `kind` and the `answers` of their question or, of several
about one picture, these of each as `questions`. Every question is put on its own, without those before it.

Axes: B questions of a batch, N questions in all, P prompt tokens.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from mmjax.data.chat import chat_template
from mmjax.data.pipeline import Pipeline
from mmjax.data.records import IMAGE, Conversation, Turn, decode
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.captions import another
from mmjax.evaluation.encoders import filled
from mmjax.evaluation.passes import ability, everywhere
from mmjax.evaluation.vqa import normalize


@dataclasses.dataclass(frozen=True)
class Asked:
    """One question: the number of its record in the split, its kind, its text, and the accepted answers."""

    record: int
    kind: str
    text: str
    answers: tuple[str, ...]


def questions(record: Conversation, number: int) -> Iterator[Asked]:
    """The questions of a conversation that say what their answers are; none where its facts do not."""
    each = record.facts.get("questions") or [record.facts]
    users = [turn.text for turn in record.turns if turn.role == "user"]
    for text, facts in zip(users, each, strict=False):
        if "kind" in facts and facts.get("answers"):
            yield Asked(number, facts["kind"], text.replace(IMAGE, "").strip(), tuple(facts["answers"]))


def is_right(answer: str, answers: Sequence[str]) -> bool:
    """Whether an answer is one of the accepted ones. Example: 'Two.' is, of ('2',)."""
    return normalize(answer) in map(normalize, answers)


class TextOnly:
    """The best answers that take no look at the picture, learned from questions with their answers."""

    def __init__(self, seen: Iterable[Asked]):
        by_text, by_kind = (collections.defaultdict(collections.Counter) for _ in range(2))
        for one in seen:
            by_text[one.kind, one.text][one.answers[0]] += 1
            by_kind[one.kind][one.answers[0]] += 1
        self._by_text, self._by_kind = (
            {key: min(counts, key=lambda answer: (-counts[answer], answer)) for key, counts in table.items()}
            for table in (by_text, by_kind)
        )

    def answer(self, asked: Asked) -> str:
        """What it says; '' to a kind of question that it has never seen."""
        return self._by_text.get((asked.kind, asked.text), self._by_kind.get(asked.kind, ""))


def score(asked: Sequence[Asked], **said: Sequence[str]) -> dict[str, float]:
    """count, and for each answerer `<name>` over all and `<name>_<kind>` for each kind, with intervals.

    said: an answer per question from each answerer.
    """
    right = {
        name: np.array([is_right(answer, one.answers) for answer, one in zip(answers, asked, strict=True)])
        for name, answers in said.items()
    }
    kinds = np.array([one.kind for one in asked], object)
    figures: dict[str, float] = {"count": len(asked)}
    for name, values in right.items():
        figures |= statistics.mean(name, values)
    for kind in sorted(set(kinds)):
        label, rows = re.sub(r"\W+", "_", kind), kinds == kind
        figures[f"count_{label}"] = int(rows.sum())
        for name, values in right.items():
            figures |= statistics.mean(f"{name}_{label}", values[rows])
    return figures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """Greedy answers to the questions of a split, scored; see the module.

    Attributes:
      length: most tokens of an answer. batch_size: questions at a time; no figure depends on it.
      limit: only the first so many records. training_split: what the text-only answerer learns from.
    """

    length: int = 8
    batch_size: int = 64
    limit: int | None = None
    training_split: str = "train"

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not write, or no record holds a question with its answer.

        The key chooses the shuffled pictures.
        """
        asked = list(self._asked(pipeline.record(index) for index in self._numbers(pipeline)))
        if not asked:
            raise UserError(
                f"split {pipeline.split!r} of {pipeline.config.source} holds no question with its answers: "
                "evaluate on conversations whose facts have `kind` and `answers`."
            )
        own = np.array([one.record for one in asked])
        others = self._other_pictures(own, key)
        learned = pipeline.dataset.source(self.training_split)
        text_only = TextOnly(self._asked(decode(learned[number]) for number in range(len(learned))))
        return score(
            asked,
            accuracy=self.answers(system, params, pipeline, asked, own),
            text_only=[text_only.answer(one) for one in asked],
            shuffled=self.answers(system, params, pipeline, asked, others),
        )

    def answers(
        self, system: Any, params: Any, pipeline: Pipeline, asked: Sequence[Asked], records: np.ndarray
    ) -> list[str]:
        """What the system says to each question about the picture of the record that stands beside it.

        records: i32[N], numbers of records.
        """
        caption = ability(system, "caption")
        prompts = [self._prompt(pipeline, one.text) for one in asked]
        longest = max(map(len, prompts))

        @functools.partial(jax.jit, out_shardings=everywhere(params))
        def write(params, image, tokens, segment):
            greedy = jax.random.key(0)  # never read: temperature is 0
            valid = np.ones(image.shape[:2], bool)
            return caption(params, image, valid, tokens, segment, greedy, length=self.length)

        @functools.lru_cache(maxsize=2 * self.batch_size)
        def picture(number: int) -> np.ndarray:
            return np.asarray(pipeline.config.image_spec.decode(pipeline.record(number).images[0]))

        said = []
        for start in range(0, len(asked), self.batch_size):
            part = slice(start, start + self.batch_size)
            tokens = np.stack([np.pad(ids, (0, longest - len(ids))) for ids in prompts[part]])
            lengths = np.array([[len(ids)] for ids in prompts[part]])
            rows = (
                np.stack([picture(int(number))[None] for number in records[part]]),
                tokens.astype(np.int32),
                (np.arange(longest) < lengths).astype(np.int32),
            )
            ids = write(params, *(filled(array, self.batch_size) for array in rows))
            said += [pipeline.tokenizer.decode(row) for row in np.asarray(ids)[: len(tokens)]]
        return said

    def _numbers(self, pipeline: Pipeline) -> range:
        return range(len(pipeline) if self.limit is None else min(self.limit, len(pipeline)))

    def _asked(self, records: Iterable[Any]) -> Iterator[Asked]:
        for number, record in enumerate(records):
            if isinstance(record, Conversation) and record.images:
                yield from questions(record, number)

    def _other_pictures(self, own: np.ndarray, key: jax.Array) -> np.ndarray:
        """For each question the number of another question's record, the same one for all of a record."""
        numbers, place = np.unique(own, return_inverse=True)
        return numbers[another(len(numbers), key)][place]

    def _prompt(self, pipeline: Pipeline, text: str) -> list[int]:
        alone = Conversation(id="question", images=(b"",), turns=(Turn("user", f"{IMAGE}{text}"),))
        return chat_template(pipeline.config.chat).prompt(pipeline.tokenizer, alone)
