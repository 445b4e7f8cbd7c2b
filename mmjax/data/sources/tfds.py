"""TensorFlow Datasets by `tfds.data_source`, without TensorFlow: `tfds:NAME[:CONFIG]?data_dir=DIR`.

The data set must have been prepared in a format of random access (ArrayRecord or Parquet). Pictures are taken
as they are stored, still encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmjax.data.records import BadRecord, Record
from mmjax.data.sources.access import Rows, Source
from mmjax.data.sources.splits import HELD_OUT_SHARE, Splits, held_out
from mmjax.data.sources.table import COLUMNS
from mmjax.errors import UserError


def open_path(
    path: str,
    *,
    data_dir: str = "",
    image: str = "",
    caption: str = "",
    id: str = "",
    held_out_share: float = HELD_OUT_SHARE,
) -> Splits:
    """Opens a prepared data set.

    Args:
      path: name of the builder, `:CONFIG` after it where it has several.
      data_dir: where it was prepared; "" for TFDS's own default.
      image, caption, id: names of features; "" to look for the usual ones.
      held_out_share: what share to hold out where it has the split "train" alone.

    Raises:
      UserError: the `tfds` extra is not installed, the data set is not there, or has no such feature.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"tfds:{path} needs the package `{error.name}`: run `pip install 'mmjax[tfds]'`."
        ) from error
    name = path.replace(":", "/")
    try:
        builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
        features = builder.info.features
        chosen = _features(name, features, {"image": image, "caption": caption, "id": id})
        decoders = {chosen["image"]: tfds.decode.SkipDecoding()}
        sources = {
            split: builder.as_data_source(split=split, decoders=decoders) for split in builder.info.splits
        }
    except UserError:
        raise
    except Exception as error:  # registration, files and protobufs fail in many ways
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"tfds:{path} cannot be opened ({reason}): prepare it in ArrayRecord form, or correct data_dir."
        ) from error
    names = getattr(features[chosen["caption"]], "names", None)
    if list(sources) != ["train"]:
        return Splits(
            path, {split: _opener(path, split, one, chosen, names) for split, one in sources.items()}
        )
    divided = held_out(range(len(sources["train"])), held_out_share, lambda index: index)
    return Splits(
        path,
        {
            split: _opener(path, "train", sources["train"], chosen, names, rows)
            for split, rows in divided.items()
        },
    )


def _opener(
    name: str,
    split: str,
    source: Any,
    chosen: dict[str, str],
    names: list[str] | None,
    rows: list[int] | None = None,
) -> Callable[[], Source]:
    def record(index: int) -> Record:
        example = source[index]
        id = _text(example[chosen["id"]]) if chosen["id"] else f"{name}/{split}/{index}"
        image, caption = example[chosen["image"]], example[chosen["caption"]]
        if not isinstance(image, bytes):
            raise BadRecord(id, "missing image", f"the feature holds {type(image).__name__}, not a picture")
        if names:
            caption = names[int(caption)].replace("_", " ")
        texts = [_text(one) for one in caption] if isinstance(caption, list | tuple) else [_text(caption)]
        facts = {"captions": texts} if len(texts) > 1 else {}
        return Record(id=id, image=image, caption=texts[0] if texts else "", facts=facts)

    return lambda: Rows(list(range(len(source))) if rows is None else rows, record)


def _features(name: str, features: Any, wanted: dict[str, str]) -> dict[str, str]:
    known = list(features)
    found = {
        what: wanted[what] or next((one for one in COLUMNS[what] if one in known), "") for what in wanted
    }
    for what, feature in found.items():
        if (feature and feature not in known) or (not feature and what != "id"):
            raise UserError(
                f"tfds:{name} has the features {', '.join(known)}: say which is the {what}: ?{what}=FEATURE."
            )
    return found


def _text(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
