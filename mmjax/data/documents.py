"""Interleaved documents: which pictures stay, and where they stand in the text.

A document is cut into chunks, a picture and the text that belongs to it (the text that follows it in the
record), as in OpenFlamingo's reading of MMC4:

    <bos><image>text of the first<eos><image>text of the second<eos>          images="before"
    <bos>text of the first<image><eos>text of the second<image><eos>          images="after"

A model that sees only the latest picture reads, in the second layout, each text with the picture before it:
Flamingo (section 3.2) draws between the two with equal chance. The draw here is a function of the record's
id, not of the epoch, so that a document has one length and packing can rely on it.
"""

from __future__ import annotations

import dataclasses
import hashlib

from mmjax.data.layouts import Sample, Slots, Writer, one_slot
from mmjax.data.records import Document
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError

PLACES = ("before", "after", "random")
ALWAYS = {"before": 0.0, "after": 1.0, "random": 0.5}  # chance that pictures come after their text


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentLayout:
    """How an interleaved document is written.

    Attributes:
      images: "before" or "after" the text they belong to, or "random", half of the documents each way.
      min_similarity: a picture less similar to its text is left out, its text stays; where the record knows
        no similarity, all stay. MMC4's users take 0.24.
      end_of_chunk: after each picture and its text, learned; <eos> where the vocabulary lacks it.
      learn_without_picture: whether text before the first picture is learned, and so documents without any.
    """

    images: str = "before"
    min_similarity: float = -1.0
    end_of_chunk: str = "<|endofchunk|>"
    learn_without_picture: bool = False

    def __post_init__(self):
        if self.images not in PLACES:
            raise UserError(f"data.document.images is {self.images!r}: use one of {', '.join(PLACES)}.")

    def sample(
        self,
        tokenizer: Tokenizer,
        record: Document,
        length: int,
        slots: Slots = one_slot,
        *,
        max_images: int | None = None,
    ) -> Sample:
        """The document up to `length` tokens and `max_images` pictures: chunks that do not fit are dropped,
        but of the first, so much text as fits is kept.

        Raises:
          BadRecord: not even the first picture fits, or nothing is left to learn.
        """
        after = _share(record.id) < ALWAYS[self.images]
        written = Writer(tokenizer, slots)
        written.markup("<bos>")
        pictures = 0
        for number, (picture, texts) in enumerate(self._chunks(record)):
            pictures += picture is not None
            if max_images is not None and pictures > max_images:
                break
            chunk = Writer(tokenizer, slots)
            self._write(chunk, picture, " ".join(texts), after=after, learned=number > 0)
            if number > 1 and len(written) + len(chunk) > length:
                break
            written.add(chunk)
        return written.sample(length)

    def _chunks(self, record: Document) -> list[tuple[bytes | None, list[str]]]:
        """First the text before any picture, then each picture that stays, with its text."""
        chunks: list[tuple[bytes | None, list[str]]] = [(None, [])]
        similarity = iter(record.similarity or [1.0] * len(record.images))
        for part in record.parts:
            if isinstance(part, str):
                chunks[-1][1].append(part.strip())
            elif next(similarity) >= self.min_similarity:
                chunks.append((part, []))
        return chunks

    def _write(self, chunk: Writer, picture: bytes | None, text: str, *, after: bool, learned: bool) -> None:
        if picture is None and not text:
            return
        if picture is not None and not after:
            chunk.picture(picture)
        chunk.text(text, target=learned or self.learn_without_picture)
        if picture is not None and after:
            chunk.picture(picture)
        if learned or self.learn_without_picture:
            chunk.end(self.end_of_chunk)


def _share(id: str) -> float:
    """A number in [0, 1) that depends on nothing but the id."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:4], "big") / 2**32
