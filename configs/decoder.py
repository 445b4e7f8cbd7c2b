"""The diffusion decoder alone: it draws from CLIP embeddings, as unCLIP does, without a language model.

    mmjax train --config decoder:openmoji --workdir runs/decoder \
        --config.training.initialize="('clip=runs/clip',)"

Set `model.embedding_source` to 'image' to train on the embeddings of pictures; such a decoder also makes
variations of a picture.

Variants:
  tiny, quickstart, openmoji: on the CLIP of the same variant.
"""

from ml_collections import ConfigDict

from mmjax.config import load


def get_config(arg: str | None = None) -> ConfigDict:
    variant = arg or "openmoji"
    config = load(f"generator:{variant}")
    decoder = config.model.decoder.to_dict()
    decoder["denoiser"]["context"] = None
    config = config.to_dict()
    config["system"] = "mmjax.systems.diffusion_decoder.DiffusionDecoder"
    config["model"] = decoder
    config["data"] |= dict(text_length=18, template="<bos>{caption}<eos>")
    config["training"] |= dict(initialize=("clip=runs/clip",))
    return ConfigDict(config)
