# ruff: noqa: RUF001 (look-alike characters are what a tokenizer must tell apart)
"""Token ids and pixels against the processors of transformers and OpenCLIP."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402
import tokenizers  # noqa: E402
from pictures import encoded  # noqa: E402
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil  # noqa: E402
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil  # noqa: E402

from mmjax.data import tokenizer_files  # noqa: E402
from mmjax.data.images import ImageSpec  # noqa: E402
from mmjax.data.tokenizer import Tokenizer  # noqa: E402
from mmjax.data.worlds import openmoji  # noqa: E402
from mmjax.interop import pixels  # noqa: E402
from mmjax.interop.pixels import Pixels  # noqa: E402
from mmjax.layers.embeddings import standardize  # noqa: E402

TEXTS = [
    "a photo of a cat",
    "It's we'll I'VE they'd you're o'clock 'tis",
    "naïve café, Straße; ÀÉÎÕÜ İstanbul ΣΑΣ",
    "e\u0301 u\u0308 \u1e9b\u0323 decomposed",
    "😀 👩🏽‍🚀 🇩🇪 ❤️ emoji",
    "  two  spaces \t a tab\nand a line ",
    "!!! ... ,,, ## @user #tag 50 % (a) [b] {c} <d> a_b-c/d\\e",
    "1234567 3.14 １２３ ⅔ ²",
    "улыбающееся лицо وجه مبتسم 笑っている顔 웃는 얼굴 צוחק",
    "zero\u200bwidth no\u00a0break …—– AT&T ©®™",
    "a" * 300,
    "word " * 200,
    "",
]
WEB_TEXTS = [
    "Tom &amp; Jerry &lt;3 &amp;amp; &copy; &#39;x&#39; &notanentity;",
    "“quoted” don’t ‘single’ „low“",
    "ﬁne ﬂow ＡＢＣ　ｘ",
    "a line\u2028break and a \x07bell",
]


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory):
    """Directory of a tiny CLIP vocabulary as transformers saves it, and the tokenizer that it is of."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    reference = transformers.CLIPTokenizer()
    trained.normalizer = reference.backend_tokenizer.normalizer
    trained.pre_tokenizer = reference.backend_tokenizer.pre_tokenizer
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(TEXTS[:10] * 3, trainer)
    content = json.loads(trained.to_str())["model"]
    vocabulary = content["vocab"]
    for token in [*sorted(c + "</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(pair) for pair in content["merges"]]
    assert len(merges) > 100
    reference = transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)
    folder = tmp_path_factory.mktemp("clip")
    reference.save_pretrained(folder / "new")
    (folder / "old").mkdir()
    (folder / "old" / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "old" / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder, reference


@pytest.mark.parametrize("layout", ["new", "old"])
def test_clip_ids_are_those_of_transformers(clip_files, layout):
    """From tokenizer.json, and from the vocab.json and merges.txt of older releases.

    An HTML entity stays as it is here: for files of transformers, transformers is followed.
    """
    folder, reference = clip_files
    ours = tokenizer_files.load(folder / layout)
    if layout == "new":
        assert ours.roles["<pad>"] == reference.pad_token_id
    settings = dict(padding="max_length", truncation=True, max_length=77)
    for text in TEXTS + WEB_TEXTS:
        wanted = np.array(reference(text, **settings)["input_ids"])
        found = Tokenizer.from_json(ours.to_json()).row(text, 77)
        used = np.argmax(wanted == reference.eos_token_id) + 1
        np.testing.assert_array_equal(found[:used], wanted[:used], err_msg=text)
        if layout == "new":
            np.testing.assert_array_equal(found, wanted, err_msg=text)


def test_clip_ids_are_those_of_open_clip():
    """OpenAI's 49,408 tokens, cleaned as OpenAI does; transformers keeps entities and curly quotes."""
    found = importlib.util.find_spec("open_clip")
    if found is None or importlib.util.find_spec("ftfy") is None:
        pytest.skip("needs the packages open_clip_torch and ftfy")
    folder = Path(found.submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", folder / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)  # by itself: the package imports torchvision
    spec.loader.exec_module(module)
    reference = module.SimpleTokenizer()
    merges = gzip.decompress((folder / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode("utf-8")
    ours = tokenizer_files.openai_clip(merges)
    assert ours.vocabulary_size == 49408 and ours.roles["<eos>"] == 49407
    names = [drawing.caption for drawing in openmoji.drawings()[::7]]
    for text in [*TEXTS, *WEB_TEXTS, *names]:
        np.testing.assert_array_equal(ours.row(text, 77), reference(text)[0], err_msg=text)


def test_gpt2_ids_are_those_of_transformers(tmp_path):
    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS[:10] * 3, vocab_size=700, special_tokens=["<|endoftext|>"])
    trained.save_model(str(tmp_path))
    reference = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    ours = tokenizer_files.load(tmp_path)
    for text in TEXTS + WEB_TEXTS:
        assert ours.encode(text) == reference(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text.replace("<|endoftext|>", "")


SIZES = [(64, 64), (97, 64), (64, 131), (200, 301), (333, 250), (50, 37), (37, 31), (40, 39), (43, 257)]


def pictures():
    """Drawings at odd sizes, and noise with structure at every scale."""
    resvg = pytest.importorskip("resvg_py")
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        drawing = openmoji.drawings()[400 * number + 7]
        yield bytes(
            resvg.svg_to_bytes(
                svg_path=str(drawing.path),
                width=width,
                background="#ffffff" if number % 2 else "#3060a0",
                skip_system_fonts=True,
            )
        )
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
        smooth = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] / 2
        photo = np.clip(smooth + rng.normal(64, 30, (height, width, 3)), 0, 255)
        yield encoded(photo, "JPEG" if number % 3 == 0 else "PNG")


@pytest.mark.parametrize(
    ("processor", "default"),
    [
        (
            CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}),
            Pixels(spec=ImageSpec(size=40, resize="center_crop", draft=False)),
        ),
        (
            CLIPImageProcessorPil(size={"shortest_edge": 46}, crop_size={"height": 41, "width": 41}),
            Pixels(spec=ImageSpec(size=41, resize="center_crop", draft=False)),
        ),
        (
            SiglipImageProcessorPil(size={"height": 40, "width": 40}),
            Pixels(spec=ImageSpec(size=40, resize="stretch", draft=False)),
        ),
    ],
    ids=["clip", "clip_wider", "siglip"],
)
def test_pixels_are_those_of_transformers(processor, default, tmp_path):
    """Bytes are equal; so is, within rounding, what the model sees, which we standardise on the device.

    transformers drops alpha and EXIF orientation, which we apply; none of these pictures has either.
    """
    from PIL import Image

    processor.save_pretrained(tmp_path)
    found = pixels.read(tmp_path / pixels.FILE, default)
    for number, data in enumerate(pictures()):
        file = tmp_path / "picture"
        file.write_bytes(data)
        image = Image.open(file).convert("RGB")
        ours = np.asarray(found.spec.decode(data))
        plain = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
        np.testing.assert_array_equal(ours, plain[0].transpose(1, 2, 0), err_msg=str(number))
        seen = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_allclose(standardize(ours, found.mean, found.std), seen, atol=2e-6)
