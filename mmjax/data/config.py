"""What to read and how to lay it out: the `data` section of a config."""

from __future__ import annotations

import dataclasses

from mmjax.data.chat import ChatTemplate, chat_template
from mmjax.data.documents import DocumentLayout
from mmjax.data.images import ImageSpec
from mmjax.data.mixtures import Mixture
from mmjax.data.templates import Template
from mmjax.data.tiling import AnyResolution, Canvas, PatchSpec
from mmjax.data.transforms import Augmentation
from mmjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to read and how to lay it out.

    Which layout a record gets follows from its kind: `template` for captioned pictures, `chat` for
    conversations, `document` for interleaved documents.

    Attributes:
      source: where the data is, see `mmjax.data.sources.open_dataset`.
      mixture: (source, weight) of several, in place of `source`; a weight is a share of the rows.
      stages: (step, weights): from this step on, the sources of `mixture` have these weights instead.
      split: the split to train on.
      images: most pictures of a row; 0 for the text alone.
      image_size: side of the pictures in pixels; others are resized, see `image_resize` (`ImageSpec`).
      image: a published model's whole preprocessing, in place of `image_resize` and `background`.
      patches: patches at the picture's own aspect ratio (NaFlex), in place of squares.
      tiles: tiles of a picture of any resolution (LLaVA-NeXT, Llama 3.2), in place of squares.
      slots_per_image: markers that each picture takes in the text; tiles count their own.
      text_length: tokens of a row. A longer caption is a bad record, a conversation loses its last exchanges,
        a document its end.
      template: layout of a captioned picture, see `templates`.
      chat: layout of a conversation, one of `chat.TEMPLATES` or one's own.
      document: layout of an interleaved document.
      pack: several documents in a row, see `packing`.
      buckets: ascending lengths; a batch is as long as the shortest that holds its documents.
      index_directory: where the lengths that `pack` and `buckets` need are kept; "" for nowhere.
      vocabulary_size: largest vocabulary of a tokenizer trained on the texts.
      facts: whole numbers among the `facts` of a record that stand in the batch by their names, such as
        ("label",) for the classes of a folder.
      augment: None for none. Training only.
      threads: each prepares whole batches ahead; 0 reads when asked.
      processes: each prepares whole batches with so many `threads`, beside the training process; 0 leaves all
        to the training process. Threads of one process take turns wherever they run Python, with each other
        and with the training loop; a process takes 0.3 GB, a second to start, and holds batches ready as
        this one does. It writes them where this one reads them, see `lending`.
      max_bad_share: a run stops when more of a split than this share is bad.
      cache_megabytes: decoded pictures kept in memory, filled as they are read; shared out to `processes`.
    """

    source: str = ""
    mixture: tuple[tuple[str, float], ...] = ()
    stages: tuple[tuple[int, tuple[float, ...]], ...] = ()
    split: str = "train"
    images: int = 1
    image_size: int = 64
    image_resize: str = "pad"
    background: tuple[int, int, int] = (255, 255, 255)
    image: ImageSpec | None = None
    patches: PatchSpec | None = None
    tiles: AnyResolution | Canvas | None = None
    slots_per_image: int = 1
    text_length: int = 24
    template: str = "<bos>{caption}<eos>"
    chat: str | ChatTemplate = "plain"
    document: DocumentLayout = dataclasses.field(default_factory=DocumentLayout)
    pack: bool = False
    buckets: tuple[int, ...] = ()
    index_directory: str = "~/.cache/mmjax"
    vocabulary_size: int = 4096
    facts: tuple[str, ...] = ()
    augment: Augmentation | None = dataclasses.field(default_factory=Augmentation)
    threads: int = 2
    processes: int = 0
    max_bad_share: float = 0.01
    cache_megabytes: int = 256

    def __post_init__(self):
        if self.image is not None and self.image.size != self.image_size:
            raise UserError(
                f"data.image.size is {self.image.size}: make it data.image_size={self.image_size}."
            )
        if self.source and self.mixture:
            raise UserError("data has both a source and a mixture: set one of the two.")
        if self.stages and not self.mixture:
            raise UserError("data.stages changes the weights of data.mixture, which is empty: set it too.")
        if min(self.threads, self.processes) < 0:
            raise UserError(
                f"data.threads is {self.threads} and data.processes {self.processes}: use 0 or more of each."
            )
        if self.mixture:
            Mixture(self.draw_stages(1), 0)
        self._check_layout()

    def _check_layout(self) -> None:
        markers = Template(self.template).images
        chat_template(self.chat)
        if markers > 1:
            raise UserError(f"data.template {self.template!r} has several <image>: a record has one.")
        if markers > self.images:
            raise UserError(f"data.template {self.template!r} has an <image> but data.images is 0: raise it.")
        if self.patches is not None and self.tiles is not None:
            raise UserError("data.patches and data.tiles are two ways to cut a picture: set one to None.")
        if self.tiles is not None and self.augment is not None:
            raise UserError("data.augment cannot be had with data.tiles: set it to None.")
        if self.facts and self.pack:
            raise UserError(
                "data.facts are of a record and data.pack puts several in a row: set one of them."
            )
        if self.buckets and (self.pack or self.mixture):
            raise UserError("data.buckets needs a single source and no packing: use data.pack instead.")
        if self.buckets and [*sorted(set(self.buckets))] != [*self.buckets[:-1], self.text_length]:
            raise UserError(
                f"data.buckets are {self.buckets}: use ascending lengths of which the last is "
                f"data.text_length={self.text_length}."
            )

    @property
    def image_spec(self) -> ImageSpec:
        """How a single picture is prepared."""
        return self.image or ImageSpec(
            size=self.image_size, background=self.background, resize=self.image_resize
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source, in the order of its records in `Pipeline.record`."""
        return tuple(source for source, _ in self.mixture) or (self.source,)

    def draw_stages(self, batch_size: int) -> list[tuple[int, tuple[float, ...]]]:
        """(first row of the run, weights) of each stage of the mixture."""
        first = (0, tuple(weight for _, weight in self.mixture))
        return [first, *((step * batch_size, tuple(weights)) for step, weights in self.stages)]
