"""ImageNet (Deng et al. 2009): a folder per class and split; captions from the names of the synsets.

    [ILSVRC/Data/CLS-LOC/]{train,val}/n01440764/*.JPEG
    [ILSVRC/Data/CLS-LOC/]val/*.JPEG, with LOC_val_solution.csv    ILSVRC2012_val_00000001,n01440764 1 2 3 4
    LOC_synset_mapping.txt                          n01440764 tench, Tinca tinca
    imagenet_class_index.json                       {"0": ["n01440764", "tench"]}

The label is the place of the class in the file of names, or among the sorted folders where there is none.
"""

from __future__ import annotations

import os

from mmjax.data.readers import _layout as layout
from mmjax.data.sources import files
from mmjax.data.sources.folder import open_classes
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits
from mmjax.errors import UserError


def open_path(path: str, *, held_out_share: float = HELD_OUT_SHARE) -> Splits:
    """Opens the folders; a share is held out where there is neither a train nor a val folder."""
    inner = layout.find(path, "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC") or path
    return open_classes(inner, _names(path), held_out_share, known=_known(path))


def _names(path: str) -> dict[str, str]:
    if file := layout.find(path, "LOC_synset_mapping.txt", "synset_words.txt"):
        lines = (line.split(None, 1) for line in files.read_text(file).splitlines())
        return {line[0]: line[1].split(",")[0].strip() for line in lines if len(line) == 2}
    if file := layout.find(path, "imagenet_class_index.json"):
        try:
            return {synset: name.replace("_", " ") for synset, name in files.read_json(file).values()}
        except (AttributeError, TypeError, ValueError) as error:
            name = os.path.basename(file)
            raise UserError(f"{name} is not a map of numbers to [synset, name]: fetch it again.") from error
    return {}


def _known(path: str) -> dict[str, str]:
    """Picture -> synset of the validation pictures, where they lie in one folder."""
    file = layout.find(path, "LOC_val_solution.csv")
    lines = files.read_text(file).splitlines()[1:] if file else []
    pairs = (line.split(",") for line in lines)
    return {pair[0]: pair[1].split()[0] for pair in pairs if len(pair) == 2 and pair[1].strip()}
