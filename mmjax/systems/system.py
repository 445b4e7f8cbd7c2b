"""What a system is: the whole contract between a published model and the rest of the library.

A system is a frozen, keyword-only dataclass. Its fields are the typed configuration of the model; its methods
are pure functions of parameters. The trainer, the command line, the sharding rules and the evaluators know
this file and nothing about any particular system.

Optional abilities are plain methods, present only where they make sense: `encode_image`, `encode_text`,
`caption`, `draw`. A caller asks with `getattr` and tells the user when an ability is missing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

Params = Mapping[str, Any]  # a plain nested dict of arrays
Batch = Mapping[str, jax.Array]
Terms = Mapping[str, tuple[float, jax.Array, jax.Array]]  # name -> (weight, sum, count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """The parameter is trained; `learning_rate` multiplies the optimizer's."""

    learning_rate: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freeze:
    """The parameter never changes: no gradient, no optimizer state, no EMA copy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Only rows `start <= row < stop` of axis 0 are trained; the others stay as they are, to the bit."""

    start: int
    stop: int
    learning_rate: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Track(Freeze):
    """Not trained but measured: the running value of a statistic of the batch, as batch normalisation keeps.

    `loss` puts what its batch shows into `outputs["tracked"]`, nested as the parameters are; after
    each update the parameter is `momentum * parameter + (1 - momentum) * shown`.
    """

    momentum: float = 0.9


Treatment = Train | Freeze | Rows
TRAIN, FREEZE = Train(), Freeze()


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """Base of every system: subclasses add fields and define `init`, `loss` and what else they need."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters; every leaf is boxed with its logical axis names (`nn.LogicallyPartitioned`)."""
        raise TypeError(f"{type(self).__name__} does not define init")

    def loss(self, params: Params, batch: Batch, key: jax.Array) -> tuple[Terms, Mapping[str, jax.Array]]:
        """The objective of one batch.

        Returns:
          terms: {name: (weight, sum, count)}. The total is the sum over terms of `weight * sum / count`.
            Sums and counts stay apart so that neither a global batch nor gradient accumulation can bias a
            mean; counts depend on the batch alone.
          outputs: {name: scalar} further figures worth logging; and see `Track`.
        """
        raise TypeError(f"{type(self).__name__} does not define loss")

    def part(self, path: str) -> str | None:
        """The part of the system that parameter 'a/b/c' counts to in published tables; None where they do not
        count it, such as a running statistic."""
        return path.split("/")[0]

    def treatments(self) -> tuple[tuple[str, Treatment], ...]:
        """Ordered (path pattern, treatment); the first full match of 'a/b/c' wins, no match is an error."""
        return ((".*", TRAIN),)

    def after_update(self, params: Params) -> Params:
        """Runs on the parameters after each optimizer update, inside the jitted step."""
        return params


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveSystem(System):
    """A system whose loss compares the rows of a batch with each other.

    It is defined in two parts, so that microbatches can be embedded one by one and yet every row be compared
    with those of the whole batch.
    """

    def embed(self, params: Params, batch: Batch, key: jax.Array) -> tuple[Any, Mapping[str, jax.Array]]:
        """What the rows are compared by, and outputs, see `loss`.

        Row b of these arrays of [B, ...] depends on row b of the batch alone (what is `Track`ed aside).
        """
        raise TypeError(f"{type(self).__name__} does not define embed")

    def contrast(self, params: Params, features: Any) -> tuple[Terms, Mapping[str, jax.Array]]:
        """The objective of what `embed` gave for all rows, see `loss`."""
        raise TypeError(f"{type(self).__name__} does not define contrast")

    def loss(self, params, batch, key):
        features, shown = self.embed(params, batch, key)
        terms, outputs = self.contrast(params, features)
        return terms, {**outputs, **shown}
