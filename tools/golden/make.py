"""Writes the golden files: `python -m tools.golden.make [name ...]`, from the root of the repository.

Needs the `parity` extra, and for OpenFlamingo `pip install --no-deps open_flamingo einops einops_exts`,
for OpenAI's layout of CLIP and NFNets `pip install --no-deps open_clip_torch timm`.
"""

import sys
from pathlib import Path

from tools.golden import autoencoder, clip, clip_openai, flamingo, language, nfnet, vision

DIRECTORY = Path(__file__).parents[2] / "tests" / "parity" / "golden"
LARGEST = 300_000  # bytes

REFERENCES = {
    function.__name__: function
    for function in (
        clip.clip_layer,
        clip.clip,
        clip.siglip_layer,
        clip.siglip,
        clip_openai.open_clip,
        clip_openai.clip_resnet,
        nfnet.nfnet,
        language.llama,
        language.llama_stretched,
        language.qwen3,
        language.gpt2,
        language.gpt_neox,
        language.opt,
        language.opt_post,
        language.mpt,
        language.mosaic_gpt,
        language.bert_layer,
        language.chameleon_swin_layer,
        flamingo.open_flamingo_cross,
        flamingo.open_flamingo_resampler,
        flamingo.open_flamingo,
        flamingo.idefics_cross,
        flamingo.idefics_resampler,
        flamingo.idefics,
        vision.dinov2_layer,
        vision.dit_block,
        vision.time_embedding,
        vision.dit,
        autoencoder.autoencoder,
    )
}


def main(names: list[str]) -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in names or REFERENCES:
        path = DIRECTORY / f"{name}.npz"
        REFERENCES[name]().save(path)
        size = path.stat().st_size
        if size > LARGEST:
            raise SystemExit(f"{path.name} has {size} bytes: make its default sizes smaller")
        print(f"{size / 1000:7.1f} kB  {path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
