"""SigLIP 2 (Tschannen et al. 2025) in the sizes that Google released, by their fixed resolutions.

SigLIP with the vocabulary of Gemma. The text tower of g-opt is that of So400m; its projection leads to
g-opt's width. So400m/14 at 384 pixels has 27 x 27 patches and sees 378 of them.
"""

from mmjax.systems.sizes.siglip import siglip

_GEMMA = dict(vocabulary_size=256_000)
SIZES = {
    "B/32-256": siglip("B", 32, 256, **_GEMMA),
    "B/16-224": siglip("B", 16, 224, **_GEMMA),
    "B/16-256": siglip("B", 16, 256, **_GEMMA),
    "B/16-384": siglip("B", 16, 384, **_GEMMA),
    "B/16-512": siglip("B", 16, 512, **_GEMMA),
    "L/16-256": siglip("L", 16, 256, **_GEMMA),
    "L/16-384": siglip("L", 16, 384, **_GEMMA),
    "L/16-512": siglip("L", 16, 512, **_GEMMA),
    "So400m/14-224": siglip("So400m", 14, 224, **_GEMMA),
    "So400m/14-384": siglip("So400m", 14, 384, **_GEMMA),
    "So400m/16-256": siglip("So400m", 16, 256, **_GEMMA),
    "So400m/16-384": siglip("So400m", 16, 384, **_GEMMA),
    "So400m/16-512": siglip("So400m", 16, 512, **_GEMMA),
    "g-opt/16-256": siglip("g-opt", 16, 256, **_GEMMA, text="So400m"),
    "g-opt/16-384": siglip("g-opt", 16, 384, **_GEMMA, text="So400m"),
}
