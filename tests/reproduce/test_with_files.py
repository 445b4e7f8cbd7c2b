"""Rows that need files, from end to end, on tiny random weights and data in the public layouts.

What they should come to is computed beside the ledger: towers applied to rows of tokens one by one, figures
counted by hand. That the published figures come out only with the published files is asserted nowhere.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tokenizers
from flax import linen as nn
from PIL import Image

from mmjax.data.images import ImageSpec
from mmjax.interop import family, names
from mmjax.reproduce import ledger
from mmjax.reproduce.files import Files
from mmjax.reproduce.measures import weights as weights_measures
from mmjax.training.state import abstract_params

sys.path.append(str(Path(__file__).parents[1] / "interop"))
import releases

BOS, EOS, LENGTH, SIZE = 48, 49, 9, 16
WORDS = ("a", "photo", "of", "the", "diagram", "dog", "cat", "depicts", "fish", "red", "blue", "small", ".")
REPOSITORY = "openai/clip-vit-base-patch32"
TEMPLATES, CLASSES = ["a photo of a {} .", "the small {} ."], ["dog", "cat", "fish"]


class Oracle:
    """The same weights, without interop's conversion, the checkpoint and the encoders."""

    def __init__(self, config, tensors, seen=None):
        found = family.find(config, "")
        self.system = found.read(config, seen)
        shapes = nn.meta.unbox(abstract_params(self.system))
        self.params = names.to_ours(tensors, shapes, found.tables(self.system)[0])
        self._encode_text, self._encode_image = map(
            jax.jit, (self.system.encode_text, self.system.encode_image)
        )

    def text(self, text):
        return self.ids([BOS, *(WORDS.index(word) for word in text.replace(".", " .").lower().split()), EOS])

    def ids(self, ids):
        row = np.array([ids + [EOS] * (LENGTH - len(ids))], np.int32)
        return np.asarray(self._encode_text(self.params, row))[0]

    def picture(self, pixels):
        return np.asarray(self._encode_image(self.params, pixels[None, None]))[0]


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """(directory of weights, directory of data, the oracle)."""
    weights, data = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("data")
    tensors = releases.tensors(releases.CLIP)
    directory = releases.write(weights / REPOSITORY, releases.CLIP, tensors)
    vocabulary = {word: place for place, word in enumerate(WORDS)}
    vocabulary |= {"<|startoftext|>": BOS, "<|endoftext|>": EOS}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    words.save(str(directory / "tokenizer.json"))
    preprocessing = {
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "CLIPImageProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": SIZE},
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return weights, data, Oracle(releases.CLIP, tensors)


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 28, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return ImageSpec(size=SIZE, resize="center_crop", draft=False).load(path)


def value(public, pattern):
    weights, data, _ = public
    rows = ledger.rows(pattern)
    assert len(rows) == 1
    (outcome,) = ledger.run(rows, Files(weights=weights, data=data))
    assert outcome.value is not None, outcome.reason
    assert outcome.is_wrong  # the weights are random
    return outcome.value


def test_the_demo_of_the_readme(public):
    _, data, oracle = public
    pixels = draw(data / "CLIP.png", 0)
    texts = np.stack([oracle.text(text) for text in ("a diagram", "a dog", "a cat")])
    scale = np.exp(oracle.params["logit_scale"])
    expected = jax.nn.softmax(scale * texts @ oracle.picture(pixels))
    np.testing.assert_allclose(value(public, "clip/ViT-B-32/demo"), expected, rtol=2e-4)


def test_zero_shot_accuracy_on_class_folders(public):
    _, data, oracle = public
    cells = [
        {"cell_type": "markdown", "source": ["# imagenet_classes = []"]},
        {"cell_type": "code", "source": ["! pip install x\n"]},
        {"cell_type": "code", "source": [f"imagenet_classes = {CLASSES!r}"]},
        {"cell_type": "code", "source": [f"imagenet_templates = {TEMPLATES!r}\n", "\n", "print(1)"]},
    ]
    notebook = data / "Prompt_Engineering_for_ImageNet.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    vectors = []
    for name in CLASSES:
        mean = np.mean([oracle.text(template.format(name)) for template in TEMPLATES], axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    right, total = 0, 0
    for label, folder in enumerate(("n01", "n02", "n03")):
        for number in range(2 + label):
            pixels = draw(data / "imagenet" / "val" / folder / f"{number}.JPEG", 10 * label + number)
            right += np.argmax(np.stack(vectors) @ oracle.picture(pixels)) == label
            total += 1
    np.testing.assert_allclose(value(public, "clip/ViT-B-32/imagenet"), [100 * right / total])


@pytest.mark.parametrize(
    ("size", "repository", "told", "said"),
    [
        ("B-16-256", "google/siglip-base-patch16-256", "SiglipTokenizer", "A photo, of the {}!"),
        ("B-16-224", "google/siglip2-base-patch16-224", "GemmaTokenizer", "a photo . of THE {}"),
    ],
)
def test_zero_shot_accuracy_of_siglip(tmp_path, size, repository, told, said):
    """SigLIP reads lower case without punctuation, SigLIP 2 lower case; both read the padding too."""
    weights, data = tmp_path / "weights", tmp_path / "data"
    tensors = releases.tensors(releases.SIGLIP)
    directory = releases.write(weights / repository, releases.SIGLIP, tensors)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: place for place, word in enumerate([*WORDS, "</s>"])}, "</s>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["</s>"])
    words.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": told, "pad_token": "</s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "image_processor_type": "SiglipImageProcessor",
                "resample": 3,
                "rescale_factor": 1 / 255,
                "size": {"height": SIZE, "width": SIZE},
            }
        )
    )
    end = len(WORDS)
    oracle = Oracle(releases.SIGLIP, tensors)
    read = said.lower().replace(",", "").replace("!", "").split()
    rows = [[WORDS.index(name if word == "{}" else word) for word in read] for name in CLASSES]
    vectors = np.stack([oracle.ids(row + [end] * (LENGTH - len(row))) for row in rows])
    source = [f"imagenet_classes = {CLASSES!r}\nimagenet_templates = {[said]!r}"]
    (data / "imagenet" / "val").mkdir(parents=True)
    (data / "Prompt_Engineering_for_ImageNet.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": source}]})
    )
    right = []
    for number in range(9):
        picture = data / "imagenet" / "val" / f"n{number % 3}" / f"{number}.JPEG"
        draw(picture, number)
        pixels = ImageSpec(size=SIZE, resize="stretch", draft=False).load(picture)
        right.append(np.argmax(vectors @ oracle.picture(pixels)) == number % 3)
    family_name = repository.split("/")[1].split("-")[0]
    found = value((weights, data, None), f"{family_name}/{size}/imagenet")
    np.testing.assert_allclose(found, [100 * np.mean(right)])


def test_numbered_class_folders_are_in_the_order_of_their_numbers(public, tmp_path):
    for number in range(11):
        draw(tmp_path / str(number) / "x.png", number)
    paths, labels = weights_measures._pictures(tmp_path, 11)
    assert [path.parent.name for path in paths] == [str(number) for number in range(11)]
    np.testing.assert_array_equal(labels, np.arange(11))


def test_clip_score_of_an_example(public):
    _, data, oracle = public
    root = data / "clipscore" / "example"
    pictures = {name: oracle.picture(draw(root / "images" / f"{name}.jpg", n)) for n, name in enumerate("pq")}
    said = {"q": "a red dog", "p": "the cat"}
    references = {"p": ["a blue cat", "a cat"], "q": ["the dog"]}
    (root / "good_captions.json").write_text(json.dumps(said))
    (root / "refs.json").write_text(json.dumps(references))
    scores = []
    for name, text in said.items():
        caption = oracle.text("a photo depicts " + text)
        seen = 2.5 * max(pictures[name] @ caption, 0)
        best = max(max(oracle.text("a photo depicts " + r) @ caption for r in references[name]), 0)
        scores.append((seen, 2 * seen * best / (seen + best) if seen + best else 0))
    found = value(public, "metrics/clipscore/example/good")
    np.testing.assert_allclose(found, np.mean(scores, axis=0), atol=1e-5)


def test_caption_score_of_an_example(tmp_path):
    root = tmp_path / "clipscore" / "example"
    root.mkdir(parents=True)
    (root / "good_captions.json").write_text(
        json.dumps({"q": "the red fish swims far away", "p": "no such words"})
    )
    references = {"p": ["a blue cat asleep"], "q": ["The red fish swims far away.", "a dog"]}
    (root / "refs.json").write_text(json.dumps(references))
    (outcome,) = ledger.run(ledger.rows("metrics/cider-d/good"), Files(data=tmp_path))
    # Of two references, the caption repeats one word for word and shares nothing with the other: half of ten.
    np.testing.assert_allclose(outcome.value, (5.0, 0.0, 2.5), rtol=1e-6)
    assert outcome.status == ledger.DIFFERS and outcome.is_wrong


def test_retrieval_on_karpathys_split(public):
    weights, data, oracle = public
    captions = [["a dog", "a red dog"], ["the cat", "a small cat"], ["a fish", "the blue fish"]]
    listed, pictures = [], []
    for number, several in enumerate(captions):
        name = f"{number}.jpg"
        pictures.append(oracle.picture(draw(data / "coco" / "images" / "val2014" / name, 30 + number)))
        sentences = [{"raw": text} for text in several]
        listed.append(dict(split="test", filepath="val2014", filename=name, sentences=sentences))
    listed.append(dict(split="train", filepath="train2014", filename="lost.jpg", sentences=[]))
    (data / "coco" / "dataset_coco.json").write_text(json.dumps({"images": listed}))
    owner = np.array([0, 0, 1, 1, 2, 2])
    similarity = (
        np.stack([oracle.text(text) for several in captions for text in several]) @ np.array(pictures).T
    )
    to_picture = np.mean(np.argmax(similarity, axis=1) == owner)
    to_text = np.mean(owner[np.argmax(similarity, axis=0)] == np.arange(3))
    arguments = "data/coco/dataset_coco.json", "data/coco/images"
    found = weights_measures.retrieval(Files(weights=weights, data=data), REPOSITORY, *arguments)
    np.testing.assert_allclose(found, [100 * to_picture, 100 * to_text])


def test_question_files(tmp_path):
    lines = [{"image": f"{n // 6}.jpg", "text": "?", "label": "yes" if n % 2 else "no"} for n in range(3000)]
    for strategy in ("random", "popular"):
        file = tmp_path / "POPE" / "output" / "coco" / f"coco_pope_{strategy}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(map(json.dumps, lines)) + "\n")
        lines = lines[:-6]  # the second file lacks a picture
    rows = ledger.rows("metrics/pope/questions/*")
    found = {outcome.row.id.split("/")[-1]: outcome for outcome in ledger.run(rows, Files(data=tmp_path))}
    assert found["random"].status == ledger.REPRODUCED
    assert (found["popular"].status, found["popular"].value) == (ledger.DIFFERS, (2994, 1497, 1497, 499))
    assert found["adversarial"].status == ledger.UNCHECKED
    assert "data/POPE/output/coco/coco_pope_adversarial.json" in found["adversarial"].reason


def test_amber_annotations(tmp_path):
    file = tmp_path / "AMBER" / "data" / "annotations.json"
    file.parent.mkdir(parents=True)
    entries = [{"type": "generative"}] * 3 + [{"type": "discriminative-hallucination", "truth": "no"}] * 5
    entries += [{"type": "discriminative-relation", "truth": "yes"}, {"type": "relation", "truth": "no"}] * 2
    file.write_text(json.dumps(entries))
    rows = ledger.rows("metrics/amber/a*")
    found = [outcome.value for outcome in ledger.run(rows, Files(data=tmp_path))]
    assert found == [(12, 3, 9, 5, 0, 0, 0, 4), (0, 5), (2, 2)]


def test_a_damaged_file_is_told_and_does_not_cost_the_other_rows(public, tmp_path):
    directory = tmp_path / REPOSITORY
    directory.mkdir(parents=True)
    for file in (public[0] / REPOSITORY).iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    draw(tmp_path / "CLIP.png", 0)
    (outcome,) = ledger.run(ledger.rows("clip/ViT-B-32/demo"), Files(weights=tmp_path, data=tmp_path))
    assert outcome.status == ledger.UNCHECKED
    assert "model.safetensors" in outcome.reason


@pytest.mark.parametrize(
    "place",
    ["openai/clip/x.json", "clip/x.json", "models--openai--clip/snapshots/0123/x.json"],
)
def test_weights_are_found_in_every_public_layout(tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.touch()
    assert Files(weights=tmp_path).path("weights/openai/clip/x.json") == file
    assert Files(weights=tmp_path).missing(["weights/openai/clip/y.json", "data/x.json"])


def test_one_repository_may_itself_be_the_directory(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "vocab.json").touch()
    files = Files(weights=tmp_path / "clip")
    assert not files.missing(["weights/openai/clip/tokenizer.json"])  # vocab.json is its other form
    assert files.missing(["weights/openai/other/tokenizer.json"])
