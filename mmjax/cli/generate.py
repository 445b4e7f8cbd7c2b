"""usage: mmjax generate --checkpoint DIR (--image x.png | --text "..." --out x.png)

From a picture to its caption, or from a text to a picture.

  mmjax generate --checkpoint runs/generator --image cat.png
  mmjax generate --checkpoint runs/generator --text "cat face" --out cat.png --count 4

  --checkpoint  a workdir of `mmjax train`, or one of its checkpoints
  --image       the picture to describe; the caption is printed
  --text        what to draw, into the file --out
  --count       how many pictures to draw; more than one makes a grid (default 1)
  --steps       steps of the sampler: more is slower and better (default 50)
  --guidance    how closely to follow the text: 1 not at all beyond the model itself (default 3)
  --seed        another seed, another picture (default 0)
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse, require
from mmjax.data.templates import Template
from mmjax.errors import UserError
from mmjax.evaluation.grid import save, tiled
from mmjax.evaluation.passes import ability
from mmjax.training.checkpoints import Trained

CAPTION = "<bos><image>{caption}<eos>"  # the layout of a caption where the data are laid out for drawing


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        own = {"flag_values": values}
        flags.DEFINE_string("checkpoint", None, "what to generate with", **own)
        flags.DEFINE_string("image", None, "picture to describe", **own)
        flags.DEFINE_string("text", None, "what to draw", **own)
        flags.DEFINE_string("out", None, "picture to write", **own)
        flags.DEFINE_integer("count", 1, "number of pictures", lower_bound=1, **own)
        flags.DEFINE_integer("steps", 50, "steps of the sampler", lower_bound=1, **own)
        flags.DEFINE_float("guidance", 3.0, "scale of the guidance", **own)
        flags.DEFINE_integer("seed", 0, "of the noise", **own)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "checkpoint")
    if (values.image is None) == (values.text is None):
        raise UserError("give either --image to get a caption or --text to get a picture.")
    if values.text is not None:
        require(values, "out")
    trained = Trained.load(values.checkpoint)
    if values.image is not None:
        print(describe(trained, values.image, seed=values.seed))
        return
    pictures = draw(
        trained,
        values.text,
        count=values.count,
        steps=values.steps,
        guidance=values.guidance,
        seed=values.seed,
    )
    save(pictures[0] if values.count == 1 else tiled(pictures, columns=4), values.out)


def describe(trained: Trained, path: str, *, seed: int = 0) -> str:
    """The caption of one picture file.

    Raises:
      UserError: the system writes no captions, or the picture cannot be read.
    """
    caption = ability(trained.system, "caption")
    image = trained.image_spec.load(path)[None, None]
    template = Template(trained.data_config.template)
    prompt = (template if template.images else Template(CAPTION)).prompt(trained.tokenizer)
    length = trained.data_config.text_length - len(prompt["tokens"])
    ids = jax.jit(caption, static_argnames="length")(
        trained.params,
        image,
        np.ones((1, 1), bool),
        prompt["tokens"][None],
        prompt["segment"][None],
        jax.random.key(seed),
        length=length,
    )
    return trained.tokenizer.decode(np.asarray(ids[0]))


def draw(
    trained: Trained, text: str, *, count: int = 1, steps: int = 50, guidance: float = 3.0, seed: int = 0
) -> np.ndarray:
    """u8[count, H, W, 3]: pictures of one text.

    Raises:
      UserError: the system does not draw, or the text is empty or longer than its context.
    """
    paint = ability(trained.system, "draw")
    template, length = Template(trained.data_config.template), trained.data_config.text_length
    example = template.prompt(trained.tokenizer, length, text)
    tokens, segment = (jnp.tile(example[name], (count, 1)) for name in ("tokens", "segment"))
    pictures = jax.jit(paint, static_argnames=("steps", "guidance"))(
        trained.params, tokens, segment, jax.random.key(seed), steps=steps, guidance=guidance
    )
    return np.asarray(pictures * 255 + 0.5).astype(np.uint8)
