"""usage: mmjax convert --from-hf DIR --to CHECKPOINT [--dtype bfloat16]
       mmjax convert --to-hf DIR --from CHECKPOINT [--dtype float32] [--max-shard-size 5GB]

Public weights in the Hugging Face layout (config.json and safetensors) become a checkpoint, and a checkpoint
becomes such a directory; there and back gives the same tensors to the bit. Works tensor by tensor, so a model
far larger than memory converts. Tokenizer and picture preprocessing travel along. Pickles are refused.

  mmjax convert --from-hf clip-vit-base-patch32 --to runs/openai
  mmjax evaluate --checkpoint runs/openai --source data/openmoji
  mmjax train --config flamingo --config.training.initialize="('vision=runs/openai:vision',)" --workdir runs/f

  --from-hf, --to        what to read, and the checkpoint to write
  --from, --to-hf        the checkpoint to read, and the directory to write
  --dtype                float32, bfloat16 or float16; default: as it is
  --max-shard-size       largest weight file, such as 500MB; default 5GB

What is written must not exist yet; a conversion that fails leaves nothing behind.
"""

import re

from absl import flags

from mmjax.cli.evaluate import refuse
from mmjax.cli.main import parse, require
from mmjax.errors import UserError
from mmjax.interop.convert import FLOATS, from_hugging_face, to_hugging_face

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        own = {"flag_values": values}
        flags.DEFINE_string("from-hf", None, "directory to read", **own)
        flags.DEFINE_string("to", None, "checkpoint to write", **own)
        flags.DEFINE_string("from", None, "checkpoint to read", **own)
        flags.DEFINE_string("to-hf", None, "directory to write", **own)
        flags.DEFINE_enum("dtype", None, list(FLOATS), "type of what is written", **own)
        flags.DEFINE_string("max-shard-size", "5GB", "largest weight file", **own)

    values, positional = parse(arguments, define)
    refuse(positional)
    if (values["from-hf"].value is None) == (values["to-hf"].value is None):
        raise UserError("give either --from-hf and --to, or --to-hf and --from.")
    if values["from-hf"].value is not None:
        require(values, "to")
        from_hugging_face(values["from-hf"].value, values.to, dtype=values.dtype)
        print(f"{values.to} holds the weights of {values['from-hf'].value}")
        return
    require(values, "from")
    target, checkpoint = values["to-hf"].value, values["from"].value
    size = shard_bytes(values["max-shard-size"].value)
    to_hugging_face(checkpoint, target, dtype=values.dtype, shard_bytes=size)
    print(f"{target} holds the weights of {checkpoint}")


def shard_bytes(text: str) -> int:
    """'500MB' -> bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if not match or match[2].upper() not in UNITS or not float(match[1]):
        raise UserError(f"--max-shard-size {text!r} is no size: write it like 500MB or 5GB.")
    return max(int(float(match[1]) * UNITS[match[2].upper()]), 1)
