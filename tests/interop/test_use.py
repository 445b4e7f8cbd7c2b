"""A converted model is used like one trained here: evaluated on pictures, and the start of another run."""

import json

import pytest
import releases

from mmjax.cli import main as cli
from mmjax.data import tokenizer_files
from mmjax.interop.convert import from_hugging_face
from mmjax.training.checkpoints import Trained

PRINTABLE = [chr(code) for code in range(33, 127)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A converted tiny CLIP whose tokens are single characters."""
    root = tmp_path_factory.mktemp("use")
    tokens = [*PRINTABLE, *(c + "</w>" for c in PRINTABLE), "<|startoftext|>", "<|endoftext|>"]
    text = releases.CLIP["text_config"] | dict(
        vocab_size=len(tokens), max_position_embeddings=90, eos_token_id=2
    )
    config = releases.CLIP | {"text_config": text}
    source = releases.write(root / "hf", config, releases.tensors(config))
    (source / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    (source / "merges.txt").write_text("#version: 0.2\n")
    (source / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<|endoftext|>"}))
    from_hugging_face(source, root / "ours")
    return root / "ours"


def test_evaluate(clip, tiny_world, tmp_path, capsys):
    report = tmp_path / "figures.json"
    arguments = ["evaluate", "--checkpoint", str(clip), "--source", tiny_world, "--json", str(report)]
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert not stop.value.code, capsys.readouterr().err
    figures = json.loads(report.read_text())["retrieval"]
    assert figures["count"] > 5 and 0 <= figures["image_to_text_recall_at_1"] < 0.9


def test_the_tokenizer_travels_along(clip):
    tokenizer = Trained.load(clip).tokenizer
    end = tokenizer.roles["<eos>"]
    assert tokenizer.roles["<pad>"] == end == Trained.load(clip).system.text.eos_token
    assert tokenizer.decode(tokenizer.row("Hi There", 20)) == "hi there"
    kept = tokenizer_files.load(clip / "huggingface")
    assert kept.roles == tokenizer.roles
