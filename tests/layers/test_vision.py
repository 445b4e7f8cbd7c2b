"""What a fresh vision tower starts from."""

import jax
import numpy as np
import pytest
from flax.core import meta

from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig

WIDTH = 64


@pytest.mark.parametrize(("positions_initial", "stddev"), [(None, WIDTH**-0.5), (1.0, 1.0)])
def test_a_fresh_position_table_is_as_large_as_its_config_says(positions_initial, stddev):
    config = VisionConfig(
        image_size=32,
        patch=2,
        pool="mean",
        positions_initial=positions_initial,
        transformer=TransformerConfig(depth=1, width=WIDTH, heads=1),
    )
    image = np.zeros((1, 32, 32, 3), np.uint8)
    params = meta.unbox(config.tower().init(jax.random.key(0), image)["params"])
    assert np.std(params["positions"]["table"]) == pytest.approx(stddev, rel=0.02)
