"""Zero-shot classification: the class whose description is most similar to the picture.

A class is described by several prompts, 'a photo of a {}.' and the like; its vector is the mean of the unit
embeddings of the prompts, brought to length 1 again (Radford et al. 2021, section 3.1.4). Equal similarities
count as their expectation under random order, as in retrieval.

The pictures lie in one folder per class, as ImageNet's do, beside a list of the classes:

    DIRECTORY/classes.txt          n01440764 tench              <- folder, then the name in the prompts
    DIRECTORY/n01440764/*.png      n01443537 goldfish

Axes: N pictures, C classes, P prompts of a class, E embedding.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data.pipeline import Pipeline
from mmjax.errors import UserError
from mmjax.evaluation import statistics
from mmjax.evaluation.encoders import Encoders, unit
from mmjax.evaluation.retrieval import found

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CLASSES = "classes.txt"

PLAIN = ("a photo of a {}.",)
# Forward selection among the 80 prompts of the paper ended with these (openai/CLIP, notebook
# Prompt_Engineering_for_ImageNet). The 80 are a text file with a prompt per line, for `templates`.
SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def class_vectors(
    embed: Callable[[Sequence[str]], np.ndarray], classes: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """float64[C, E]: one unit vector per class.

    embed: texts -> float[len(texts), E]. classes: their names. templates: prompts with `{}` for the name.
    """
    prompts = [template.replace("{}", name) for name in classes for template in templates]
    vectors = unit(embed(prompts)).reshape(len(classes), len(templates), -1)
    return unit(vectors.mean(axis=1))


def score(
    pictures: np.ndarray, vectors: np.ndarray, labels: np.ndarray, cutoffs: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """count, `top_k` for every cut-off with its interval, `classes`, `mean_per_class` (top 1).

    Args:
      pictures: float[N, E]; vectors: float[C, E]; labels: int[N], the right class of each picture.
    """
    labels = np.asarray(labels)
    right = found(unit(pictures), unit(vectors), labels, np.arange(len(vectors)), (*cutoffs, 1))
    figures = {"count": len(right), "classes": len(vectors)}
    for column, cutoff in enumerate(cutoffs):
        figures |= statistics.mean(f"top_{cutoff}", right[:, column])
    per_class = [right[labels == label, -1].mean() for label in np.unique(labels)]
    return figures | {"mean_per_class": float(np.mean(per_class))}


@dataclasses.dataclass(frozen=True)
class Folder:
    """A directory of class folders: paths of all pictures, the number of the class of each, names."""

    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def open(cls, directory: str) -> "Folder":
        """Lists the pictures, class by class and by name.

        Raises:
          UserError: no list of classes, a class without a folder, or not one picture.
        """
        root = Path(directory)
        folders, names = zip(*(_class(line) for line in lines(root / CLASSES)), strict=True)
        paths, labels = [], []
        for label, folder in enumerate(folders):
            if not (root / folder).is_dir():
                raise UserError(f"{root / CLASSES} names the folder {folder!r}, which is not in {directory}.")
            members = sorted(path for path in (root / folder).iterdir() if path.suffix.lower() in ENDINGS)
            paths += members
            labels += [label] * len(members)
        if not paths:
            raise UserError(
                f"the class folders of {directory} hold no picture: put {ENDINGS[0]} files there."
            )
        return cls(tuple(paths), np.array(labels), names)


def _class(line: str) -> tuple[str, str]:
    folder, _, name = line.partition(" ")
    return folder, name.strip() or folder.replace("_", " ")


def lines(path: Path | str) -> list[str]:
    """The non-empty lines of a text file; a UserError where it has none or cannot be read."""
    try:
        entries = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read: it should be a text file with one entry per line."
        ) from error
    if not any(entries):
        raise UserError(f"{path} is empty: write one entry per line.")
    return [line for line in entries if line]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Zero-shot accuracy on a directory of class folders; see the module.

    Attributes:
      directory: of the pictures.
      templates: a text file with a prompt per line; '' for one plain prompt, 'seven' for CLIP's best seven.
      limit: only the first so many pictures.
    """

    directory: str = ""
    templates: str = ""
    batch_size: int = 64
    cutoffs: tuple[int, ...] = (1, 5)
    limit: int | None = None

    def __call__(self, system: Any, params: Any, pipeline: Pipeline, *, key: jax.Array) -> dict[str, float]:
        """Of the pipeline only the tokenizer and the config are read. Nothing here is random.

        Raises:
          UserError: the system does not embed, a file is missing, or a picture cannot be read.
        """
        encoders = Encoders.of(
            system, params, pipeline.tokenizer, pipeline.config, batch_size=self.batch_size
        )
        return self.classify(encoders)

    def classify(self, encoders: Encoders) -> dict[str, float]:
        """The figures of any two towers."""
        folder = Folder.open(self.directory)
        vectors = class_vectors(encoders.texts, folder.classes, self.prompts)
        paths = folder.paths[: self.limit]
        pictures = encoders.pictures(encoders.image_spec.load(path) for path in paths)
        return score(pictures, vectors, folder.labels[: len(paths)], self.cutoffs)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts, each with `{}`; a UserError names the line without."""
        if self.templates in ("", "seven"):
            return SEVEN if self.templates else PLAIN
        prompts = lines(self.templates)
        if bad := [line for line in prompts if "{}" not in line]:
            raise UserError(f"{self.templates} has the prompt {bad[0]!r} without {{}} for the class.")
        return tuple(prompts)

    @property
    def sources(self) -> tuple[str, ...]:
        """What the figures rest on, beside the system."""
        named = self.templates in ("", "seven")
        return (self.directory,) if named else (self.directory, self.templates)
