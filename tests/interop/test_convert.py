"""Public layouts to checkpoints and back."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import releases
from flax.traverse_util import flatten_dict
from releases import CLIP, CONFIGS, assert_equal, tensors, write

from mmjax.cli import main as cli
from mmjax.data.images import ImageSpec
from mmjax.interop import family, pixels
from mmjax.interop.convert import from_hugging_face, to_hugging_face
from mmjax.training.checkpoints import Trained, initialize, load_params, load_run


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_gives_the_same_files(name, tmp_path):
    source = write(tmp_path / "hf", CONFIGS[name], tensors(CONFIGS[name]))
    from_hugging_face(source, tmp_path / "ours")
    to_hugging_face(tmp_path / "ours", tmp_path / "back")
    assert {p.name: p.read_bytes() for p in source.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()
    }


def test_half_precision_and_shards(tmp_path):
    values = tensors(CLIP, dtype="bfloat16")
    source = write(tmp_path / "hf", CLIP | {"dtype": "bfloat16"}, values, shard_bytes=3000)
    assert len(list(source.glob("*.safetensors"))) > 3
    from_hugging_face(source, tmp_path / "ours")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(load_params(tmp_path / "ours"))} == {"bfloat16"}
    to_hugging_face(tmp_path / "ours", tmp_path / "one")
    to_hugging_face(tmp_path / "ours", tmp_path / "many", shard_bytes=3000)
    for back in ("one", "many"):
        assert_equal(releases.read(tmp_path / back), values)
    assert (tmp_path / "one" / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert (tmp_path / "one" / "model.safetensors").exists()
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == values.keys()


def test_another_type_is_asked_for(tmp_path):
    values = tensors(CLIP)
    source = write(tmp_path / "hf", CLIP, values)
    from_hugging_face(source, tmp_path / "ours", dtype="bfloat16")
    to_hugging_face(tmp_path / "ours", tmp_path / "half")
    assert_equal(
        releases.read(tmp_path / "half"), {k: v.astype(ml_dtypes.bfloat16) for k, v in values.items()}
    )
    assert json.loads((tmp_path / "half" / "config.json").read_text()) == CLIP | {"dtype": "bfloat16"}
    assert Trained.load(tmp_path / "ours").system.vision.transformer.dtype == "bfloat16"
    from_hugging_face(source, tmp_path / "full")
    to_hugging_face(tmp_path / "full", tmp_path / "short", dtype="float16")
    assert_equal(releases.read(tmp_path / "short"), {k: v.astype(np.float16) for k, v in values.items()})


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(release, converted checkpoint) of a tiny CLIP."""
    root = tmp_path_factory.mktemp("clip")
    source = write(root / "hf", CLIP, tensors(CLIP))
    (source / "preprocessor_config.json").write_text(
        json.dumps({"size": 18, "crop_size": 16, "do_center_crop": True, "image_mean": [0.1, 0.2, 0.3]})
    )
    from_hugging_face(source, root / "ours")
    return source, root / "ours"


def test_a_converted_checkpoint_is_like_any_other(clip):
    values, trained = tensors(CLIP), Trained.load(clip[1])
    kernel = trained.params["vision"]["stack"]["layers"]["self_attention"]["query"]["kernel"]
    assert kernel.shape == (3, 16, 2, 8)
    name = "vision_model.encoder.layers.1.self_attn.q_proj.weight"
    np.testing.assert_array_equal(kernel[1].reshape(16, 16), values[name].T)
    patches = trained.params["vision"]["patch_embed"]["projection"]["kernel"].reshape(8, 8, 3, 16)
    convolution = values["vision_model.embeddings.patch_embedding.weight"]
    np.testing.assert_array_equal(patches[2, 5, 1], convolution[:, 1, 2, 5])  # row 2, column 5, green
    assert trained.step == 0
    assert trained.system.text.eos_token == 49
    assert trained.system.vision.mean == (0.1, 0.2, 0.3)
    assert trained.image_spec == ImageSpec(size=16, resize="center_crop", shorter_side=18, draft=False)
    assert trained.data_config.image_spec == trained.image_spec
    target = jax.tree.map(jax.numpy.zeros_like, trained.params["vision"])
    filled = initialize({"vision": target}, [f"vision={clip[1]}:vision"])["vision"]
    for path, leaf in flatten_dict(filled).items():
        np.testing.assert_array_equal(leaf, flatten_dict(trained.params["vision"])[path])


def test_buffers_and_repeated_tensors_travel_along(tmp_path):
    values = tensors(releases.GPT2, layout=1)  # without the prefix
    assert "wte.weight" in values
    values |= {f"h.{i}.attn.bias": np.tril(np.ones((1, 1, 9, 9), np.uint8)) for i in range(2)}
    source = write(tmp_path / "hf", releases.GPT2, values)
    from_hugging_face(source, tmp_path / "ours")
    to_hugging_face(tmp_path / "ours", tmp_path / "back")
    assert_equal(releases.read(tmp_path / "back"), values)

    tied = releases.LLAMA | {"tie_word_embeddings": True}
    values = tensors(tied)
    values["lm_head.weight"] = values["model.embed_tokens.weight"]
    from_hugging_face(write(tmp_path / "tied", tied, values), tmp_path / "tied_ours")
    to_hugging_face(tmp_path / "tied_ours", tmp_path / "tied_back")
    assert_equal(releases.read(tmp_path / "tied_back"), values)
    values["lm_head.weight"] = values["lm_head.weight"] + 1
    source = write(tmp_path / "untied", tied, values)
    with pytest.raises(cli.UserError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        from_hugging_face(source, tmp_path / "nothing")


def test_copies_that_differ_are_refused(tmp_path):
    values = tensors(releases.DIT)
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    values[name] = values[name] + 1
    source = write(tmp_path / "hf", releases.DIT, values)
    with pytest.raises(cli.UserError, match=rf"{name} differs from transformer_blocks\.0\."):
        from_hugging_face(source, tmp_path / "ours")


def test_old_names_of_an_autoencoder(tmp_path):
    values = tensors(releases.AUTOENCODER, layout=1)
    assert any(name.endswith("attentions.0.proj_attn.weight") for name in values)
    from_hugging_face(write(tmp_path / "hf", releases.AUTOENCODER, values), tmp_path / "ours")
    to_hugging_face(tmp_path / "ours", tmp_path / "back")
    assert_equal(releases.read(tmp_path / "back"), values)


def convert(*arguments, capsys):
    """(exit code, stderr) of `mmjax convert`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", *map(str, arguments)])
    return stop.value.code or 0, capsys.readouterr().err


def renamed(values):
    values["text_projection.wait"] = values.pop("text_projection.weight")
    return values


def reshaped(values):
    values["text_projection.weight"] = values["text_projection.weight"][:, :-1]
    return values


@pytest.mark.parametrize(
    ("config", "change", "sentence"),
    [
        (CLIP, renamed, "missing: text_projection.weight; not expected: text_projection.wait"),
        (CLIP, reshaped, "mis-shaped: text_projection.weight is [8, 11] and should be [8, 12]"),
        (CLIP, lambda values: tensors(releases.SIGLIP), "not expected: logit_bias, text_model.head.bias"),
        (
            CLIP,
            lambda values: values | {"logit_scale": np.int64(3) + np.zeros((), int)},
            "logit_scale is int64",
        ),
        (CLIP | {"model_type": "clap"}, None, "model_type 'clap': mmjax knows AutoencoderKL"),
        (CLIP | {"projection_dim": 9}, None, "mis-shaped: "),
        ({**CLIP, "text_config": {**CLIP["text_config"], "hidden_act": "tanh"}}, None, "lacks 'tanh'"),
        (releases.MPT | {"attn_config": {"qk_ln": True}}, None, "qk_ln is True and not False"),
        (releases.MPT | {"attn_config": {"alibi": False}}, None, "alibi is False and not True"),
        (releases.MOSAIC_GPT | {"attn_qk_ln": False}, None, "attn_qk_ln is False and not True"),
        ({"dtype": "float32"}, None, "_class_name None"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_code_2(config, change, sentence, tmp_path, capsys):
    values = tensors(CLIP)
    source = write(tmp_path / "hf", CLIP, change(values) if change else values)
    (source / "config.json").write_text(json.dumps(config))
    code, err = convert("--from-hf", source, "--to", tmp_path / "ours", capsys=capsys)
    assert code == 2
    assert sentence in err and str(source) in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_damage_pickles_and_targets_that_exist(tmp_path, capsys):
    source, ours = write(tmp_path / "hf", CLIP, tensors(CLIP)), tmp_path / "ours"
    file = source / "model.safetensors"
    whole = file.read_bytes()

    def refused(sentence, *arguments):
        code, err = convert(*(arguments or ("--from-hf", source, "--to", ours)), capsys=capsys)
        assert code == 2 and sentence in err and err.count("\n") == 1, err
        assert not list(tmp_path.glob(".*"))

    file.write_bytes(whole[:-7])
    refused(f"{file} is truncated: the data of visual_projection.weight end past")
    file.write_bytes(whole[:90])
    refused(f"{file} is truncated or no safetensors file")
    file.rename(source / "pytorch_model.bin")
    refused(f"{source / 'pytorch_model.bin'} is a pickle")
    refused("pytorch_model.bin is a pickle", "--from-hf", source / "pytorch_model.bin", "--to", ours)
    refused(f"{source / 'nowhere'} is no directory", "--from-hf", source / "nowhere", "--to", ours)
    assert not ours.exists()

    file.write_bytes(whole)
    ours.mkdir()
    (ours / "mine").write_text("kept")
    refused(f"{ours} exists and is left as it is")
    refused("there is no checkpoint in", "--to-hf", tmp_path / "back", "--from", ours)
    refused("give either --from-hf and --to", "--to", ours)
    refused("give --from", "--to-hf", tmp_path / "back")
    refused("is no size", "--to-hf", tmp_path / "back", "--from", ours, "--max-shard-size", "5 potatoes")
    assert (ours / "mine").read_text() == "kept" and not (tmp_path / "back").exists()


def test_a_conversion_that_dies_leaves_nothing(clip, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmjax.interop.safetensors.Entry.read", fail)
    code, err = convert("--from-hf", clip[0], "--to", tmp_path / "ours", capsys=capsys)
    assert code == 2 and "cannot be written (No space left on device)" in err
    monkeypatch.setattr("mmjax.training.streaming.Leaves.read", fail)
    code, _ = convert("--to-hf", tmp_path / "back", "--from", clip[1], capsys=capsys)
    assert code == 2
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_ours_becomes_a_release(clip, tmp_path, monkeypatch):
    """Without what a conversion keeps, config and preprocessing follow from the system."""
    run = load_run(clip[1])
    del run["interop"]
    monkeypatch.setattr("mmjax.interop.convert.load_run", lambda _: run)
    to_hugging_face(clip[1], tmp_path / "back")
    assert_equal(releases.read(tmp_path / "back"), tensors(CLIP))
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["model_type"] == "clip" and config["text_config"]["eos_token_id"] == 49
    again = pixels.read(tmp_path / "back" / "preprocessor_config.json", pixels.Pixels(spec=ImageSpec()))
    assert again.spec == Trained.load(clip[1]).image_spec and again.mean == (0.1, 0.2, 0.3)

    run["config"]["model"]["vision"]["transformer"]["norm"] = "rms"
    with pytest.raises(
        cli.UserError, match=r"vision\.transformer\.norm is 'rms' and would have to be 'layer'"
    ):
        to_hugging_face(clip[1], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_can_say_what_it_reads(name):
    found = family.find(CONFIGS[name], "config.json")
    system = found.read(CONFIGS[name], None)
    assert found.difference(system) is None
    assert family.holding(system).name == found.name


def test_eos_2_means_the_largest_id():
    """Where eos_token_id is 2, transformers reads at the largest id, as OpenAI's own code always does."""
    text = {**CLIP["text_config"], "eos_token_id": 2}
    system = family.find(CLIP, "").read({**CLIP, "text_config": text}, None)
    assert system.text.eos_token == 49
