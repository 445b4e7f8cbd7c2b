"""Figures of public contrastive models on public data; both lie where `mmjax.reproduce.files` finds them.

Axes: N pictures, C classes or texts, E embedding.
"""

import ast
import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.errors import UserError
from mmjax.evaluation import clipscore, zero_shot
from mmjax.evaluation.encoders import Encoders
from mmjax.evaluation.retrieval import recalls
from mmjax.interop.convert import from_hugging_face
from mmjax.reproduce.files import Files
from mmjax.training.checkpoints import Trained

BATCH_SIZE = 32


def probabilities(files: Files, repository: str, picture: str, texts: tuple[str, ...]) -> tuple[float, ...]:
    """How likely each text is the one of the picture, among these."""
    trained, encoders = _model(files, repository)
    seen = encoders.pictures([encoders.image_spec.load(files.path(picture))])
    logits = trained.system.logits(trained.params, seen, encoders.texts(texts))
    return tuple(float(p) for p in jax.nn.softmax(logits[0]))


def accuracy(
    files: Files, repository: str, pictures: str, notebook: str, cutoffs: tuple[int, ...]
) -> tuple[float, ...]:
    """Zero-shot accuracy in percent at each cut-off, with the classes and prompts that a notebook lists."""
    _, encoders = _model(files, repository)
    lists = _lists(files.path(notebook))
    classes, templates = (
        _entry(lists, name, notebook) for name in ("imagenet_classes", "imagenet_templates")
    )
    paths, labels = _pictures(files.path(pictures), len(classes))
    vectors = zero_shot.class_vectors(encoders.texts, classes, templates)
    seen = encoders.pictures(encoders.image_spec.load(path) for path in paths)
    figures = zero_shot.score(seen, vectors, labels, cutoffs)
    return tuple(100 * figures[f"top_{cutoff}"] for cutoff in cutoffs)


def retrieval(files: Files, repository: str, splits: str, pictures: str) -> tuple[float, float]:
    """Recall at 1 in percent, text to picture and picture to text, on the test split of Karpathy's file."""
    _, encoders = _model(files, repository)
    listed = [one for one in _json(files.path(splits))["images"] if one["split"] == "test"]
    root = files.path(pictures)
    seen = encoders.pictures(
        encoders.image_spec.load(root / one.get("filepath", "") / one["filename"]) for one in listed
    )
    captions = [(n, said["raw"]) for n, one in enumerate(listed) for said in one["sentences"][:5]]
    read = encoders.texts([text for _, text in captions], truncate=True)
    here, owner = np.arange(len(listed)), np.array([n for n, _ in captions])
    return tuple(
        100 * float(recalls(*sides, (1,))[0])
        for sides in ((read, seen, owner, here), (seen, read, here, owner))
    )


def clip_scores(files: Files, repository: str, example: str, captions: str) -> tuple[float, float]:
    """Mean CLIPScore and RefCLIPScore of captions.json beside `images/` and `refs.json`."""
    _, encoders = _model(files, repository)
    root = files.path(example)
    said, references = _json(root / captions), _json(root / "refs.json")
    places = {path.stem: path for path in (root / "images").iterdir()}
    if lost := sorted(said.keys() - places.keys()):
        raise UserError(f"{root / 'images'} has no picture {lost[0]}, which {captions} describes.")
    seen = encoders.pictures(encoders.image_spec.load(places[name]) for name in said)
    read = _prefixed(encoders, list(said.values()))
    closest = [_prefixed(encoders, references[name]) for name in said]
    return (
        float(np.mean(clipscore.clip_scores(seen, read))),
        float(np.mean(clipscore.ref_clip_scores(seen, read, closest))),
    )


def _prefixed(encoders: Encoders, texts: Sequence[str]) -> np.ndarray:
    return encoders.texts([clipscore.PREFIX + text for text in texts], truncate=True)


def _model(files: Files, repository: str) -> tuple[Trained, Encoders]:
    config = files.path(f"weights/{repository}/config.json")
    return _loaded(config.parent)


@functools.lru_cache(maxsize=1)  # a ledger asks about one model after the other, and they are large
def _loaded(directory: Path) -> tuple[Trained, Encoders]:
    with tempfile.TemporaryDirectory() as scratch:
        from_hugging_face(directory, Path(scratch) / "checkpoint")
        trained = Trained.load(Path(scratch) / "checkpoint")
        params = jax.tree.map(np.array, trained.params)  # in memory, before the checkpoint goes
    return trained, Encoders.of(
        trained.system, params, trained.tokenizer, trained.data_config, batch_size=BATCH_SIZE
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): download it again.") from error


def _lists(notebook: Path) -> dict[str, list[str]]:
    """The lists of strings that the code cells of a notebook assign to names."""
    found = {}
    for cell in _json(notebook)["cells"]:
        source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        try:
            statements = ast.parse(source).body
        except SyntaxError:  # shell commands
            continue
        for statement in statements:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.List):
                found[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    return found


def _entry(lists: Mapping[str, list[str]], name: str, notebook: str) -> list[str]:
    if name not in lists:
        raise UserError(f"{notebook} defines no list {name}: take the notebook of openai/CLIP.")
    return lists[name]


def _pictures(root: Path, classes: int) -> tuple[list[Path], np.ndarray]:
    """All pictures of one folder per class, and int[N], the class of each; folders count in their order.

    Numbered folders (ImageNet-V2) are in the order of their numbers, others (ImageNet) of their names.
    """
    folders = [path for path in root.iterdir() if path.is_dir()]
    folders.sort(key=lambda path: (int(path.name) if path.name.isdigit() else 0, path.name))
    if len(folders) != classes:
        raise UserError(f"{root} has {len(folders)} folders: give one for each of the {classes} classes.")
    members = [sorted(path for path in folder.iterdir() if path.is_file()) for folder in folders]
    labels = np.repeat(np.arange(classes), [len(several) for several in members])
    return [path for several in members for path in several], labels
