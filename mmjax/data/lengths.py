"""The index of lengths: how many tokens and pictures each record of a source makes, counted once and kept.

It is a function of the records, the tokenizer and the layout, and is stored under a name that hashes them, so
that a second run, or another host, starts at once. Counting lays every record out but decodes no picture.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from mmjax.data.layouts import Sample
from mmjax.data.records import BadRecord, decode
from mmjax.data.sources import Source

_PROBES = 64  # records hashed to tell one source from another


def measured(
    source: Source,
    layout: Callable[[object], Sample],
    *,
    settings: str,
    directory: str | os.PathLike,
    threads: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and pictures of each record: i64[N] twice; 0 tokens for a bad record.

    Args:
      settings: all that the lengths depend on besides the records, as text.
      directory: where the index is kept; "" for nowhere.
    """
    path = Path(directory).expanduser() / f"{_fingerprint(source, settings)}.npy" if directory else None
    if path and path.is_file():
        index = np.load(path, allow_pickle=False)
        if index.shape == (2, len(source)):
            return index[0], index[1]

    def measure(number: int) -> tuple[int, int]:
        try:
            sample = layout(decode(source[number]))
        except BadRecord:
            return 0, 0
        return len(sample), len(sample.pictures)

    numbers = range(len(source))
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        counts = tqdm(
            pool.map(measure, numbers, chunksize=256),
            total=len(source),
            unit="record",
            disable=len(source) < 20_000,
        )
        index = np.array(list(counts), np.int64).reshape(-1, 2).T
    if path:
        _store(path, index)
    return index[0], index[1]


def _fingerprint(source: Source, settings: str) -> str:
    digest = hashlib.sha256(f"1 {len(source)} {settings}".encode())
    for number in np.unique(np.linspace(0, max(len(source) - 1, 0), _PROBES).astype(int)).tolist():
        try:
            digest.update(hashlib.sha256(source[number]).digest())
        except BadRecord as bad:
            digest.update(str(bad).encode())
    return digest.hexdigest()


def _store(path: Path, index: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.save(file, index)
        os.replace(file.name, path)  # another process may write the same
    except OSError as error:
        logging.warning("the index of lengths cannot be kept in %s (%s)", path.parent, error.strerror)
