"""Random access to records wherever they are: see `open_dataset`."""

from mmjax.data.sources.access import Chain, Records, Rows, Source, caption
from mmjax.data.sources.array_record import open_array_record
from mmjax.data.sources.dataset import Dataset, open_dataset
from mmjax.data.sources.splits import Splits

__all__ = [
    "Chain",
    "Dataset",
    "Records",
    "Rows",
    "Source",
    "Splits",
    "caption",
    "open_array_record",
    "open_dataset",
]
