"""Text to image, judged by a second CLIP: does the picture drawn for a caption bring that caption to mind?

For each drawn picture the judge ranks all evaluated captions; recall at k is the share whose own caption is
among the first k. The same figure for the real pictures is the ceiling this judge allows, chance the floor. A
decoder conditioned on a CLIP can learn to please that very CLIP without drawing anything recognisable, so the
judge must be another one, trained from another seed and data order; an identical one is refused.

Axes: B batch, N records, H/W picture, L tokens, E embedding.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.encoders import Encoders
from mmjax.evaluation.grid import beside, save
from mmjax.evaluation.passes import ability, over
from mmjax.evaluation.retrieval import chances, found


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A split and what was drawn for it: index i32[N], drawn and real u8[N, H, W, 3], captions str[N]."""

    index: np.ndarray
    drawn: np.ndarray
    real: np.ndarray
    captions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Unit vectors of the judge: drawn, real and text float32[N, E]; captions str[N]."""

    drawn: np.ndarray
    real: np.ndarray
    text: np.ndarray
    captions: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """Draws every caption of a split once and asks the judge.

    judge: a trained CLIP: anything with system, params, tokenizer and data_config. In a config it is the
      directory of its checkpoint, which the command line loads.
    steps, guidance: of the sampler. limit: only the first so many records. grid: where to save a PNG of the
      first pictures drawn, beside the real ones.
    """

    judge: Any = None
    batch_size: int = 32
    steps: int = 50
    guidance: float = 3.0
    limit: int | None = None
    cutoffs: tuple[int, ...] = (1, 5)
    grid: str | None = None

    def __call__(self, system, params, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Raises UserError when the system does not draw, or the judge is missing, unfit or the same CLIP."""
        self.check_judge(params, pipeline)
        result = self.draw(system, params, pipeline, key=key)
        if self.grid is not None:
            save(beside(result.real[:32], result.drawn[:32]), self.grid)
        return self.score(self.ask(result))

    def draw(self, system, params, pipeline: Pipeline, *, key: jax.Array) -> Drawn:
        """One picture per caption. The noise of a record depends on (key, record) and on nothing else."""
        draw = ability(system, "draw")

        def one(params, row):
            noise = jax.random.fold_in(key, row["index"])
            picture = draw(
                params, row["tokens"][None], row["segment"][None], noise,
                steps=self.steps, guidance=self.guidance,
            )  # fmt: skip
            return (picture[0] * 255 + 0.5).astype(np.uint8), row["image"][0]

        index, (drawn, real) = over(
            pipeline,
            jax.vmap(one, in_axes=(None, 0)),
            params,
            batch_size=self.batch_size,
            names=("tokens", "segment", "image", "index"),
            limit=self.limit,
        )
        return Drawn(index, drawn, real, np.array(pipeline.captions, object)[index])

    def ask(self, result: Drawn) -> Judged:
        """The judge's view of pictures and captions."""
        encoders = Encoders.judge(self.judge, batch_size=self.batch_size)
        return Judged(
            drawn=encoders.pictures(result.drawn),
            real=encoders.pictures(result.real),
            text=encoders.texts(result.captions),
            captions=result.captions,
        )

    def score(self, judged: Judged) -> dict[str, float]:
        """recall_at_k and real_recall_at_k with their intervals, chance_at_k and count."""
        labels = judged.captions
        figures = {"count": len(labels)}
        for name, pictures in (("recall", judged.drawn), ("real_recall", judged.real)):
            each = found(pictures, judged.text, labels, labels, self.cutoffs)
            for k, column in zip(self.cutoffs, each.T, strict=True):
                figures |= statistics.mean(f"{name}_at_{k}", column)
        chance = chances(labels, self.cutoffs)
        return figures | {
            f"chance_at_{k}": float(value) for k, value in zip(self.cutoffs, chance, strict=True)
        }

    def check_judge(self, params: Any, pipeline: Pipeline) -> None:
        """Raises UserError unless the judge can be asked about this system's pictures."""
        if self.judge is None or isinstance(self.judge, str):
            raise UserError("generation is scored by a second CLIP: give its checkpoint with --judge DIR.")
        if contains(params, self.judge.params):
            raise UserError(
                "the judge is the CLIP that conditions the decoder: give --judge one of another seed."
            )
        sizes = self.judge.data_config.image_size, pipeline.config.image_size
        if sizes[0] != sizes[1]:
            raise UserError(f"the judge sees {sizes[0]} pixels, the data have {sizes[1]}: use equal sizes.")


def contains(tree: Any, part: Any) -> bool:
    """Whether a nested dict of arrays equals `part`, or any dict inside it does, to the last bit."""
    if not isinstance(tree, Mapping):
        return False
    if jax.tree.structure(tree) == jax.tree.structure(part):
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(part), strict=True)
        return all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in pairs)
    return any(contains(child, part) for child in tree.values())
