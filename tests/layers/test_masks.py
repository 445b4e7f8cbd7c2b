"""Truth tables: every row of a table is a query, every column a key; x = sees it, . = does not."""

import numpy as np
import pytest
from perturbed import integers

from mmjax.layers import masks


def seen(mask):
    return ["".join("x" if allowed else "." for allowed in row) for row in np.asarray(mask)]


@pytest.mark.parametrize(
    ("block_start", "segment", "table"),
    [
        pytest.param([1, 1, 1, 1], [1, 1, 1, 1], ["x...", "xx..", "xxx.", "xxxx"], id="causal"),
        pytest.param([1, 0, 0, 0], [1, 1, 1, 1], ["xxxx", "xxxx", "xxxx", "xxxx"], id="bidirectional"),
        pytest.param([1, 0, 0, 1], [1, 1, 1, 1], ["xxx.", "xxx.", "xxx.", "xxxx"], id="prefix"),
        pytest.param(
            [1, 1, 0, 0, 1],
            [1, 1, 1, 1, 1],
            ["x....", "xxxx.", "xxxx.", "xxxx.", "xxxxx"],
            id="an image inside causal text",
        ),
        pytest.param(
            [1, 0, 1, 0, 1],
            [1, 1, 1, 1, 1],
            ["xx...", "xx...", "xxxx.", "xxxx.", "xxxxx"],
            id="two images in a row",
        ),
        pytest.param(
            [1, 1, 1, 1, 1],
            [1, 1, 2, 2, 2],
            ["x....", "xx...", "..x..", "..xx.", "..xxx"],
            id="packed, causal",
        ),
        pytest.param(
            [1, 0, 1, 0, 0],
            [1, 1, 2, 2, 2],
            ["xx...", "xx...", "..xxx", "..xxx", "..xxx"],
            id="packed, images",
        ),
        pytest.param([1, 1, 1, 1], [1, 1, 0, 0], ["x...", "xx..", "....", "...."], id="padding on the right"),
        pytest.param([1, 1, 1, 1], [0, 0, 1, 1], ["....", "....", "..x.", "..xx"], id="padding on the left"),
        pytest.param([1, 1, 1], [0, 0, 0], ["...", "...", "..."], id="nothing but padding"),
        pytest.param([0, 0, 1], [1, 1, 1], ["xx.", "xx.", "xxx"], id="a first block that is not opened"),
    ],
)
def test_self_attention(block_start, segment, table):
    assert seen(masks.self_attention_mask(integers(block_start), integers(segment))[0]) == table


def test_queries_against_a_cache_see_filled_slots_only():
    mask = masks.attention_mask(
        integers([5]), integers([1]), integers([1, 2, 3, 4, 5, 6]), integers([1, 1, 0, 1, 1, 0])
    )
    assert seen(mask[0]) == ["xx.xx."]


def media_table(text, segment=None, valid=None, media=2):
    """`text` has one letter per token; I is a marker. -> rows per token, columns per medium."""
    marker = np.array([[letter == "I" for letter in text]])
    segment = integers(segment or [1] * len(text))
    owner = masks.media_segment(marker, segment, media)
    valid = np.array([valid or [True] * media])
    return seen(masks.latest_media_mask(masks.media_seen(marker), segment, valid, owner)[0])


@pytest.mark.parametrize(
    ("fields", "table"),
    [
        pytest.param(dict(text="abIcd"), ["..", "..", "x.", "x.", "x."], id="text before the first image"),
        pytest.param(dict(text="IabIc"), ["x.", "x.", "x.", ".x", ".x"], id="only the latest image"),
        pytest.param(dict(text="IabI"), ["x.", "x.", "x.", ".x"], id="image last"),
        pytest.param(dict(text="aIIb"), ["..", "x.", ".x", ".x"], id="two images in a row"),
        pytest.param(dict(text="abcd"), ["..", "..", "..", ".."], id="no image"),
        pytest.param(dict(text="IaIb", valid=[True, False]), ["x.", "x.", "..", ".."], id="a padded medium"),
        pytest.param(
            dict(text="IaIb", valid=[False, True]), ["..", "..", ".x", ".x"], id="a missing first medium"
        ),
        pytest.param(dict(text="IaIbIc"), ["x.", "x.", ".x", ".x", "..", ".."], id="more markers than media"),
        pytest.param(dict(text="Iab", media=3), ["x..", "x..", "x.."], id="more media than markers"),
        pytest.param(
            dict(text="IabIc", segment=[1, 1, 2, 2, 2]), ["x.", "x.", "..", ".x", ".x"], id="packed documents"
        ),
        pytest.param(
            dict(text="Iabc", segment=[1, 1, 2, 2]),
            ["x.", "x.", "..", ".."],
            id="a document without an image",
        ),
        pytest.param(
            dict(text="Iabc", segment=[1, 1, 0, 0]), ["x.", "x.", "..", ".."], id="padding on the right"
        ),
        pytest.param(
            dict(text="abIc", segment=[0, 0, 1, 1]), ["..", "..", "x.", "x."], id="padding on the left"
        ),
    ],
)
def test_latest_media(fields, table):
    assert media_table(**fields) == table


def test_media_belong_to_the_document_of_their_marker():
    marker = np.array([[True, False, True, True, False]])
    owner = masks.media_segment(marker, integers([1, 1, 2, 3, 3]), 4)
    np.testing.assert_array_equal(owner, [[1, 2, 3, 0]])
