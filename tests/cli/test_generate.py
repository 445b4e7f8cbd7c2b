import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmjax.cli import generate
from mmjax.data.images import ImageSpec
from mmjax.data.pipeline import DataConfig
from mmjax.data.tokenizer import EOS, Tokenizer
from mmjax.errors import UserError
from mmjax.training.checkpoints import Trained

SIZE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Echo:
    """Writes which picture it saw and what it was told; draws how it was told to."""

    def caption(self, params, image, image_valid, tokens, segment, key, *, length, temperature=0.0):
        bright = image.astype(jnp.float32).mean() > 127
        words = jnp.where(bright, params["white"], params["black"])
        return jnp.pad(words, (0, length - len(words)))[None]

    def draw(self, params, tokens, segment, key, *, steps, guidance):
        level = jnp.array([steps / 100, guidance / 10, segment[0].sum() / 100])
        noise = 0.1 * jax.random.uniform(key, (len(tokens), SIZE, SIZE, 3))
        return jnp.clip(level + noise, 0, 1)


@pytest.fixture
def trained(monkeypatch):
    tokenizer = Tokenizer.train(["white square", "black square"], 300)
    params = {name: jnp.array([*tokenizer.encode(f"{name} square"), EOS]) for name in ("white", "black")}
    longest = max(map(len, params.values()))
    params = {name: jnp.pad(ids, (0, longest - len(ids))) for name, ids in params.items()}
    found = types.SimpleNamespace(
        system=Echo(),
        params=params,
        tokenizer=tokenizer,
        image_spec=ImageSpec(size=SIZE),
        data_config=DataConfig(source="none", image_size=SIZE, text_length=24),
    )
    monkeypatch.setattr(Trained, "load", staticmethod(lambda directory: found))
    return found


def call(*arguments):
    generate.main(["--checkpoint", "somewhere", *map(str, arguments)])


def test_a_picture_becomes_its_caption(trained, tmp_path, capsys):
    for name in ("white", "black"):
        Image.new("RGB", (20, 30), name).save(tmp_path / f"{name}.png")
        # Padding is white: only a picture that is read and fitted as in training is black enough.
        call("--image", tmp_path / f"{name}.png")
        assert capsys.readouterr().out == f"{name} square\n"


def test_a_text_becomes_a_picture(trained, tmp_path):
    call("--text", "white square", "--out", tmp_path / "a.png", "--steps", 20, "--guidance", 5)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (SIZE, SIZE, 3)
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), [64, 140, 26], atol=12)


def test_the_seed_decides_and_count_makes_a_grid(trained, tmp_path):
    def draw(name, *arguments):
        call("--text", "square", "--out", tmp_path / name, *arguments)
        return np.asarray(Image.open(tmp_path / name))

    np.testing.assert_array_equal(draw("a.png", "--seed", 1), draw("b.png", "--seed", 1))
    assert (draw("c.png", "--seed", 2) != draw("a.png", "--seed", 1)).any()
    grid = draw("d.png", "--count", 5)
    assert grid.shape == (2 * (SIZE + 4) + 4, 4 * (SIZE + 4) + 4, 3)
    assert (grid[4 : 4 + SIZE, 4 : 4 + SIZE] != grid[4 : 4 + SIZE, 8 + SIZE : 8 + 2 * SIZE]).any()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "none.png"], r"none\.png cannot be read"),
        (["--image", "broken.png"], r"broken\.png cannot be used"),
        (["--text", "square"], "--out"),
        (["--text", " ", "--out", "a.png"], "text is empty"),
        (["--text", "many words " * 30, "--out", "a.png"], "more than the 24 of data.text_length"),
        (["--text", "square", "--out", "none/a.png"], "cannot be saved"),
        (["--text", "square", "--out", "a.png", "--count", "0"], "count"),
        (["--text", "square", "--out", "a.png", "--steps", "none"], "steps"),
        ([], "either --image .* or --text"),
        (["--image", "a.png", "--text", "square"], "either --image .* or --text"),
        (["--text", "square", "stray"], "unexpected argument 'stray'"),
    ],
)
def test_mistakes_are_one_sentence(trained, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=sentence) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


def test_a_system_is_asked_only_for_what_it_can(trained, tmp_path):
    trained.system = object()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="a object cannot write captions"):
        call("--image", tmp_path / "a.png")
    with pytest.raises(UserError, match="a object cannot draw pictures"):
        call("--text", "square", "--out", tmp_path / "b.png")


def test_a_missing_checkpoint_is_told(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        generate.main(["--checkpoint", str(tmp_path), "--text", "square", "--out", "a.png"])
