"""Flamingo: the identity at initialisation, who sees which picture, and decoding with a cache."""

import dataclasses

import jax
import numpy as np
import pytest
from small import FLAMINGO, VOCABULARY, batch, fresh, perturbed

from mmjax.cli.parameters import count
from mmjax.language.decoder import Decoder
from mmjax.layers.masks import self_attention_mask
from mmjax.layers.transformer import Inputs
from mmjax.systems import sizes
from mmjax.systems.system import FREEZE, TRAIN, Rows
from mmjax.training.optimizers import treat

IMAGE = 3
NAMES = ("tokens", "positions", "block_start", "segment", "image", "image_valid")


@jax.jit
def logits(params, b):
    return FLAMINGO.module.apply({"params": params}, *(b[name] for name in NAMES))


@pytest.fixture(scope="module")
def params():
    return perturbed(FLAMINGO)


@pytest.mark.parametrize("every", [2, 3])  # two whole groups; one, and a layer over
def test_at_initialisation_it_is_its_language_model_to_the_bit(every):
    system = dataclasses.replace(FLAMINGO, language=dataclasses.replace(FLAMINGO.language, cross_every=every))
    params = fresh(system)
    b = batch([[1, IMAGE, 10, 11, IMAGE, 12, 13, 14, 15, 16, 17, 2]] * 2)
    language = dict(params["language"])
    # The same layers, in one stack of four instead of groups behind a cross-attention each.
    grouped = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), language.pop("groups")["stack"])
    last = [language.pop("last")["stack"]] if "last" in language else []
    language["stack"] = jax.tree.map(lambda *x: np.concatenate(x), grouped, *last)
    alone = Decoder(dataclasses.replace(FLAMINGO.language, cross_every=0))

    def run(module):
        inputs = Inputs(mask=self_attention_mask(b["block_start"], b["segment"]), positions=b["positions"])
        return module.logits(module(module.embed(b["tokens"]), inputs)[0])

    text_only = jax.jit(lambda p: alone.apply({"params": p}, method=run))(language)
    seeing = jax.jit(lambda p: system.module.apply({"params": p}, *(b[name] for name in NAMES)))(params)
    np.testing.assert_array_equal(seeing, text_only)


@pytest.mark.parametrize(
    ("family", "size", "parts"),
    [
        ("flamingo", "3B", dict(cross_attention=1_157_627_904, resampler=169_967_616, vision=435_286_116)),
        ("flamingo", "9B", dict(cross_attention=1_803_550_720, resampler=169_967_616)),
        ("flamingo", "80B", dict(cross_attention=8_355_053_568, resampler=169_967_616)),
        (
            "idefics",
            "9B",
            dict(
                vision=630_766_080,
                resampler=125_961_984,
                cross_attention=1_434_519_568,
                language=6_738_432_000,
                total=8_929_679_632,
            ),
        ),
        # The language models have 152 (4B, 9B) or 88 (3B) rows fewer per token table than by themselves.
        ("openflamingo", "3B", dict(cross_attention=24 * 36_708_354, language=1_311_311_872 - 88 * 2048)),
        (
            "openflamingo",
            "4B",
            dict(cross_attention=16 * 56_109_058, language=2_775_864_320 - 2 * 152 * 2560),
        ),
        (
            "flamingo",
            "OpenFlamingo-9B",
            dict(
                cross_attention=8 * 139_476_994,
                resampler=63_019_008,
                language=6_649_286_656 - 152 * 4096,
                total=7_827_499_024 + 303_179_776,
            ),
        ),
    ],
)
def test_published_sizes_are_exact_part_by_part(family, size, parts):
    counts = count(sizes.load(family, size))
    assert {**counts["parts"], "total": counts["total"]}.items() >= parts.items()


def changed_positions(params, before, after):
    difference = np.abs(np.asarray(logits(params, after)) - np.asarray(logits(params, before))).max(-1)
    return difference > 0


def with_other_image(b, medium):
    image = b["image"].copy()
    image[:, medium] = 255 - image[:, medium]
    return {**b, "image": image}


def test_text_sees_the_pictures_before_it_only(params):
    b = batch([[1, 10, 11, IMAGE, 12, 13, 14, IMAGE, 15, 16, 17, 2]])
    first = changed_positions(params, b, with_other_image(b, 0))[0]
    second = changed_positions(params, b, with_other_image(b, 1))[0]
    assert not first[:3].any() and first[3:7].all()
    assert not second[:7].any() and second[7:].all()


# One layer of cross-attention and no self-attention: nothing reaches a token through the text before it.
SHALLOW = dataclasses.replace(
    FLAMINGO,
    language=dataclasses.replace(
        FLAMINGO.language,
        transformer=dataclasses.replace(FLAMINGO.language.transformer, depth=1, sublayers=("mlp",)),
        cross_every=1,
    ),
)


def shallow_difference(params, before, after):
    run = jax.jit(lambda b: SHALLOW.module.apply({"params": params}, *(b[name] for name in NAMES)))
    return np.abs(np.asarray(run(after)) - np.asarray(run(before))).max(-1)[0] > 0


def test_a_token_reads_only_the_latest_picture():
    params = perturbed(SHALLOW)
    b = batch([[1, 10, IMAGE, 12, 13, IMAGE, 14, 15, 16, 17, 18, 2]])
    first = shallow_difference(params, b, with_other_image(b, 0))
    second = shallow_difference(params, b, with_other_image(b, 1))
    np.testing.assert_array_equal(np.flatnonzero(first), [2, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(second), [5, 6, 7, 8, 9, 10, 11])


def test_padded_and_missing_media_change_nothing(params):
    tokens = [[1, IMAGE, 10, 11, 12, 13, 14, 15, 16, 17, 18, 2]]
    one = batch(tokens, media=1)
    padded = batch(tokens, media=3, valid=[[True, False, False]])
    padded["image"][:, 0] = one["image"][:, 0]
    np.testing.assert_allclose(logits(params, padded), logits(params, one), atol=1e-5)
    assert not changed_positions(params, padded, with_other_image(padded, 1)).any()
    # Nor does a picture that is there but not valid, nor one marker too many: it reads no other picture.
    invalid = {**one, "image_valid": np.zeros((1, 1), bool)}
    assert not changed_positions(params, invalid, with_other_image(invalid, 0)).any()


def test_a_marker_without_picture_reads_nothing():
    params = perturbed(SHALLOW)
    b = batch([[1, IMAGE, 10, IMAGE, 12, 13, 14, 15, 16, 17, 18, 2]], media=1)
    difference = shallow_difference(params, b, with_other_image(b, 0))
    np.testing.assert_array_equal(np.flatnonzero(difference), [1, 2])


def test_decoding_with_a_cache_equals_decoding_without(params):
    prompts = [[1, IMAGE, 10, 11, 0, 0], [1, IMAGE, 12, IMAGE, 13, 14], [1, IMAGE, 0, 0, 0, 0]]
    b = batch(prompts)
    caption = jax.jit(
        lambda p, b: FLAMINGO.caption(
            p, b["image"], b["image_valid"], b["tokens"], b["segment"], jax.random.key(0), length=5
        )
    )
    cached = np.asarray(caption(params, b))
    for row, prompt in enumerate(prompts):
        text = [token for token in prompt if token]
        for token in cached[row]:
            padded = batch([text + [0] * (12 - len(text))])
            whole = {
                **padded,
                "image": b["image"][row : row + 1],
                "image_valid": b["image_valid"][row : row + 1],
            }
            assert token == int(np.argmax(logits(params, whole)[0, len(text) - 1]))
            if token == FLAMINGO.eos_token:
                break
            text.append(int(token))
    # A row says the same alone, and with its padding on the left.
    alone = {name: array[1:2] for name, array in b.items()}
    np.testing.assert_array_equal(caption(params, alone), cached[1:2])
    left = batch([[0, 0, 1, IMAGE, 10, 11]])
    left = {**left, "image": b["image"][:1]}
    np.testing.assert_array_equal(caption(params, left), cached[:1])


def test_the_published_stage_freezes_what_the_paper_freezes():
    treatments = treat(FLAMINGO.treatments(), jax.eval_shape(FLAMINGO.init, jax.random.key(0)))
    by_path = {"/".join(path): treatment for path, treatment in treatments.items()}
    assert by_path["language/tokens/table"] == Rows(start=3, stop=4)
    for path, treatment in by_path.items():
        new = path.startswith(("resampler", "language/groups/cross")) or path == "language/tokens/table"
        assert (treatment != FREEZE) == new, path


def test_added_tokens_are_trained_where_the_vocabulary_is_frozen():
    language = dataclasses.replace(FLAMINGO.language, tied=False, added_tokens=2)
    system = dataclasses.replace(FLAMINGO, language=language, trained_rows=None, image_token=VOCABULARY + 1)
    treatments = treat(system.treatments(), jax.eval_shape(system.init, jax.random.key(0)))
    language = {path[1]: treatment for path, treatment in treatments.items() if path[0] == "language"}
    assert language["added_tokens"] == language["added_head"] == TRAIN
    assert language["tokens"] == language["head"] == FREEZE


def test_gates_start_where_they_are_told():
    language = dataclasses.replace(FLAMINGO.language, gate_initial=1.0)
    gates = fresh(dataclasses.replace(FLAMINGO, language=language))["language"]["groups"]["cross"]
    np.testing.assert_array_equal(gates["cross_gate"], [1.0, 1.0])
    np.testing.assert_array_equal(fresh(FLAMINGO)["language"]["groups"]["cross"]["mlp_gate"], [0.0, 0.0])


def test_without_a_resampler_text_reads_all_features_of_the_encoder():
    system = dataclasses.replace(FLAMINGO, resampler=None)
    params = perturbed(system)
    run = jax.jit(lambda b: system.module.apply({"params": params}, *(b[name] for name in NAMES)))
    image = batch([[1, IMAGE, 10, 2]])["image"]
    features = system.module.apply({"params": params}, image, method="encode_media")
    assert "resampler" not in params and features.shape[2:] == system.features_shape
    b = batch([[1, 10, IMAGE, 12, 13, IMAGE, 14, 15, 16, 17, 18, 2]])
    second = np.abs(np.asarray(run(with_other_image(b, 1))) - np.asarray(run(b))).max(-1)[0] > 0
    assert not second[:5].any() and second[5:].all()
