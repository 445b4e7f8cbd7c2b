import chex
import jax
import jax.numpy as jnp
import numpy as np
from perturbed import integers, normal, parameters

from mmjax.layers.embeddings import (
    PatchEmbed,
    PositionEmbedding,
    TimeEmbedding,
    TokenEmbedding,
    patchify,
    sincos_positions,
    standardize,
    unpatchify,
)


def test_patchify_cuts_rows_of_patches():
    image = normal(0, 2, 6, 9, 3)
    patches = patchify(image, 3)
    chex.assert_shape(patches, (2, 6, 27))
    for index in range(6):
        row, column = divmod(index, 3)
        cut = image[:, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        chex.assert_trees_all_equal(patches[:, index], cut.reshape(2, 27))


def test_unpatchify_inverts_patchify():
    image = normal(0, 2, 8, 12, 5)
    chex.assert_trees_all_equal(unpatchify(patchify(image, 4), 4, 8, 12), image)


def test_patch_embedding_is_a_strided_convolution():
    image, module = normal(0, 2, 8, 8, 3), PatchEmbed(10, 4)
    params = parameters(module, image)
    kernel = params["projection"]["kernel"].reshape(4, 4, 3, 10)
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(image, kernel, (4, 4), "VALID", dimension_numbers=layout)
    expected = expected.reshape(2, 4, 10) + params["projection"]["bias"]
    chex.assert_trees_all_close(module.apply({"params": params}, image), expected, rtol=1e-5, atol=1e-5)


def test_sincos_positions_against_the_formula():
    grid, width = 5, 16
    table = sincos_positions(grid, width)
    chex.assert_shape(table, (grid * grid, width))
    quarter = width // 4
    for y, x, k in np.ndindex(grid, grid, quarter):
        rate = 10000.0 ** (-k / quarter)
        expected = [np.sin(x * rate), np.cos(x * rate), np.sin(y * rate), np.cos(y * rate)]
        np.testing.assert_allclose(table[y * grid + x, k::quarter], expected, atol=1e-6)


def test_standardize_reads_bytes_and_leaves_floats_alone():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    expected = (image / 255.0 - np.array(mean)) / np.array(std)
    standardized = standardize(jnp.asarray(image), mean, std)
    chex.assert_trees_all_close(standardized, expected.astype(np.float32), rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(standardize(standardized, mean, std), standardized)


def test_positions_pick_rows_of_the_table():
    module, x = PositionEmbedding(6, 4), np.zeros((2, 3, 4), np.float32)
    params = parameters(module, x)
    chex.assert_trees_all_equal(module.apply({"params": params}, x)[1], params["table"][:3])
    picked = module.apply({"params": params}, x, integers([0, 5, 1], [2, 2, 4]))
    chex.assert_trees_all_equal(picked[1], params["table"][np.array([2, 2, 4])])


def test_token_table_embeds_and_scores():
    module, tokens = TokenEmbedding(7, 4, dtype="bfloat16"), integers([6, 0])
    params = parameters(module, tokens)
    embedded = module.apply({"params": params}, tokens)
    chex.assert_trees_all_equal(embedded[0, 0], params["table"][6].astype(jnp.bfloat16))
    logits = module.apply({"params": params}, embedded, method="logits")
    assert logits.dtype == jnp.float32
    expected = embedded.astype(np.float32) @ params["table"].T
    chex.assert_trees_all_close(logits, expected, rtol=2e-2, atol=2e-2)


def test_time_features_are_cosines_then_sines():
    module, time = TimeEmbedding(8, frequencies=8), jnp.array([0.0, 0.001, 0.5])
    params = parameters(module, time)
    features = []
    for t in (0.0, 1.0, 500.0):
        angles = [t * 10000 ** (-k / 4) for k in range(4)]
        features.append([*np.cos(angles), *np.sin(angles)])
    hidden = np.array(features) @ params["hidden"]["kernel"] + params["hidden"]["bias"]
    expected = jax.nn.silu(hidden) @ params["output"]["kernel"] + params["output"]["bias"]
    chex.assert_trees_all_close(module.apply({"params": params}, time), expected, rtol=1e-4, atol=1e-5)
