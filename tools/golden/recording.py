"""One recorded run of a reference, as a golden file stores it. Reading one needs NumPy only, not PyTorch."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """What a reference computed, and the derivatives of its objective.

    The objective is the reference's own `loss` where `outputs` has one, else the sum over outputs of
    <cotangent, output>.

    Attributes:
      sizes: what the reference was built with: widths, depths, heads, ... JSON-able.
      weights: by the reference's own parameter names.
      inputs: pictures as float[B, H, W, 3], masks as booleans, True = allowed.
      outputs: by name; `cotangents` has the same names and shapes.
      weight_gradients, input_gradients: of the objective; inputs only where they are floating point.
    """

    sizes: Mapping[str, Any]
    weights: Arrays
    inputs: Arrays
    outputs: Arrays
    cotangents: Arrays
    weight_gradients: Arrays
    input_gradients: Arrays

    def save(self, path: str | Path) -> None:
        """Writes a compressed .npz file with keys 'field/name'."""
        groups = [f.name for f in dataclasses.fields(self) if f.name != "sizes"]
        flat = {f"{group}/{name}": a for group in groups for name, a in getattr(self, group).items()}
        np.savez_compressed(path, sizes=np.array(json.dumps(dict(self.sizes))), **flat)

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Reads what `save` wrote; never unpickles."""
        groups: dict[str, Any] = {f.name: {} for f in dataclasses.fields(cls)}
        with np.load(path, allow_pickle=False) as archive:
            groups["sizes"] = json.loads(str(archive["sizes"]))
            for key in archive.files:
                group, _, name = key.partition("/")
                if name:
                    groups[group][name] = archive[key]
        return cls(**groups)
