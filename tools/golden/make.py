"""Writes the golden files: `python -m tools.golden.make [name ...]`, from the root of the repository.

Needs the `parity` extra, and for OpenFlamingo `pip install --no-deps open_flamingo einops einops_exts`.
"""

import sys
from pathlib import Path

from tools.golden import clip, flamingo, language, vision

DIRECTORY = Path(__file__).parents[2] / "tests" / "parity" / "golden"
LARGEST = 300_000  # bytes

REFERENCES = {
    function.__name__: function
    for function in (
        clip.clip_layer,
        clip.clip,
        clip.siglip_layer,
        clip.siglip,
        language.llama,
        language.qwen3,
        language.gpt2,
        language.bert_layer,
        language.chameleon_swin_layer,
        flamingo.open_flamingo_cross,
        flamingo.open_flamingo_resampler,
        flamingo.idefics_cross,
        flamingo.idefics_resampler,
        flamingo.idefics,
        vision.dinov2_layer,
        vision.dit_block,
        vision.time_embedding,
        vision.dit,
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
