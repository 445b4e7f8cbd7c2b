import importlib.util
import io
import itertools

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from mmjax.data.pipeline import DataConfig, Pipeline
from mmjax.data.records import Record
from mmjax.data.tiling import AnyResolution, Canvas, PatchSpec
from mmjax.data.tokenizer import IMAGE, Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError

TEMPLATE = "<bos><image>{caption}<eos>"


def picture(width, height, seed=0):
    return encoded(np.random.default_rng(seed).integers(0, 256, (height, width, 3)))


def opened(data):
    return Image.open(io.BytesIO(data))


def sizes(count):
    sides = np.exp(np.random.default_rng(0).uniform(np.log(8), np.log(2000), (count, 2)))
    return [(int(width), int(height)) for width, height in sides]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    shapes = [(40, 40), (80, 30), (30, 80), (64, 48), (12, 50), (100, 100)]
    records = [
        Record(id=f"r{i}", image=picture(*shape, i), caption=f"thing {i}") for i, shape in enumerate(shapes)
    ]
    return write(tmp_path_factory.mktemp("data") / "world", {"train": records}, {}).directory


def first_batch(world, **settings):
    shared = dict(source=world, template=TEMPLATE, augment=None, text_length=60)
    pipeline = Pipeline(DataConfig(**{**shared, **settings}), Tokenizer.train(["thing"], 300))
    iterator = pipeline.train(6, 0)
    [batch] = itertools.islice(iterator, 1)
    iterator.close()
    expected = {name: (array.shape, array.dtype) for name, array in pipeline.example_batch(6).items()}
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == expected
    return pipeline, batch


def test_patches_fill_the_budget_at_the_aspect_of_the_picture():
    spec = PatchSpec(patch=16, patches=256)
    for width, height in sizes(300):
        rows, columns = spec.grid((width, height))
        assert rows * columns <= 256
        finer = (rows + 1) * (columns + 1)
        assert finer > 256 or max(width, height) / min(width, height) > 100
    assert spec.grid((512, 512)) == (16, 16) and spec.grid((1024, 256)) == (8, 32)


def test_patches_are_cut_row_by_row():
    spec = PatchSpec(patch=2, patches=6)
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    patches, places = spec.cut(pixels)
    assert places.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    for patch, (row, column) in zip(patches, places, strict=True):
        own = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patch.reshape(2, 2, 3), own)


def test_a_batch_of_pictures_at_their_own_aspect(world):
    spec = PatchSpec(patch=8, patches=24)
    pipeline, batch = first_batch(world, patches=spec)
    shapes = set()
    for row, index in enumerate(batch["index"]):
        data = pipeline.record(index).image
        patches, places = spec.cut(np.asarray(spec.decode(data)))
        valid = batch["patch_valid"][row, 0]
        assert valid.sum() == len(patches) and not batch["patches"][row, 0][~valid].any()
        np.testing.assert_array_equal(batch["patches"][row, 0][valid], patches)
        np.testing.assert_array_equal(batch["patch_positions"][row, 0][valid], places)
        shapes.add(tuple(places[-1] + 1))
    assert len(shapes) >= 4


def test_the_grid_keeps_most_pixels_then_wastes_least():
    tiling = AnyResolution(size=336)
    for size, grid in [
        ((300, 300), (1, 2)),
        ((1000, 1000), (2, 2)),
        ((2000, 500), (1, 3)),
        ((500, 2000), (3, 1)),
    ]:
        assert tiling.plan(size).grid == grid
    assert (
        tiling.most == 5 and tiling.most_slots == 2928
    )  # 576 + 48 * (48 + 1): published as "up to 2880" + breaks


def test_tiles_are_an_overview_and_the_picture_in_reading_order():
    tiling = AnyResolution(size=4, patch=2, grids=((1, 2),))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    tiles = tiling.cut(Image.fromarray(pixels))
    assert tiles.shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(np.concatenate(tiles[1:], axis=1), pixels)
    sources = tiling.sources((8, 4))
    # Four features of the overview, then two lines of 2 + 2 features and a break (12 = 3 tiles of 4).
    assert sources.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 12, 6, 7, 10, 11, 12]


def test_padding_takes_no_tokens():
    tiling = AnyResolution(size=4, patch=1, grids=((1, 2),))
    plan = tiling.plan((16, 4))
    assert plan.whole == (8, 2) and plan.corner == (0, 1)
    lines = tiling.sources((16, 4))[16:].reshape(-1, 9)
    assert len(lines) == 2 and (lines[:, -1] == 48).all()
    assert lines[0, :4].tolist() == [20, 21, 22, 23]  # the second row of the first tile


def test_a_canvas_holds_the_picture_or_shrinks_it_least():
    canvas = Canvas(size=100)
    cases = [((90, 90), (1, 1), (100, 100)), ((150, 60), (1, 2), (150, 60)), ((900, 100), (1, 4), (400, 44))]
    for size, grid, whole in cases:
        plan = canvas.plan(size)
        assert plan.grid == grid and plan.whole == whole and plan.corner == (0, 0)
    assert canvas.number((90, 90)) == 1 and canvas.number((150, 60)) == 2
    assert canvas.most == 4 == canvas.all_grids[canvas.number((900, 100)) - 1][1]


def test_slots_are_reserved_when_the_text_is_tokenized(world):
    tiling = AnyResolution(size=8, patch=4, grids=((1, 2), (2, 1), (2, 2)))
    pipeline, batch = first_batch(world, tiles=tiling)
    for row, index in enumerate(batch["index"]):
        size = opened(pipeline.record(index).image).size
        expected = tiling.sources(size)
        used = batch["slots"][row] < 60
        assert used.sum() == len(expected) == (batch["tokens"][row] == IMAGE).sum()
        assert (batch["tokens"][row][batch["slots"][row][used]] == IMAGE).all()
        np.testing.assert_array_equal(batch["slot_sources"][row][used], expected)
        tiles = tiling.decode(pipeline.record(index).image)
        np.testing.assert_array_equal(batch["image"][row][batch["image_valid"][row]], tiles)
        assert tuple(batch["tile_grid"][row, 0]) == tiling.plan(size).grid


def test_a_text_with_too_many_slots_is_a_bad_record(world):
    with pytest.raises(UserError, match="caption too long"):
        first_batch(world, tiles=AnyResolution(size=8, patch=1, grids=((2, 2),)))
    with pytest.raises(UserError, match="set one to None"):
        DataConfig(source=world, tiles=Canvas(), patches=PatchSpec(), augment=None)
    with pytest.raises(UserError, match=r"data\.augment cannot be had with data.tiles"):
        DataConfig(source=world, tiles=Canvas())


@pytest.mark.parametrize("slots", [1, 3])
def test_square_pictures_reserve_a_fixed_number_of_slots(world, slots):
    _, batch = first_batch(world, slots_per_image=slots, image_size=8)
    assert ((batch["tokens"] == IMAGE).sum(1) == slots).all()
    assert batch["image"].shape == (6, 1, 8, 8, 3)


@pytest.mark.parity
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the parity extra")
class TestParity:
    """Bit for bit what transformers prepares."""

    def test_patches(self):
        from transformers.models.siglip2 import image_processing_pil_siglip2 as siglip2

        spec = PatchSpec()
        for width, height in sizes(500):
            published = siglip2.get_image_size_for_max_num_patches(height, width, 16, 256)
            assert tuple(16 * side for side in spec.grid((width, height))) == published
        processor = siglip2.Siglip2ImageProcessorPil(do_rescale=False, do_normalize=False)
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 500, 3), np.uint8))
        published = processor(image, max_num_patches=256, return_tensors="np")
        patches, places = spec.cut(np.asarray(spec.decode(encoded(image))))
        np.testing.assert_array_equal(published["pixel_values"][0][: len(patches)], patches)
        assert tuple(published["spatial_shapes"][0]) == tuple(places[-1] + 1)

    def test_any_resolution(self):
        from transformers.image_processing_utils import select_best_resolution
        from transformers.models.llava_next import image_processing_pil_llava_next as llava_next

        tiling = AnyResolution()
        grids = [[rows * 336, columns * 336] for rows, columns in tiling.grids]
        for width, height in sizes(500):
            rows, columns = tiling.plan((width, height)).grid
            assert (rows * 336, columns * 336) == tuple(select_best_resolution((height, width), grids))
        processor = llava_next.LlavaNextImageProcessorPil(do_rescale=False, do_normalize=False)
        side = {"height": 336, "width": 336}
        settings = dict(image_grid_pinpoints=grids, size={"shortest_edge": 336}, crop_size=side, resample=3)
        data = picture(301, 777)
        [published] = processor(opened(data), return_tensors="np", **settings)["pixel_values"]
        np.testing.assert_array_equal(published.transpose(0, 2, 3, 1), tiling.decode(data))

    def test_canvas(self):
        from transformers.models.mllama import image_processing_pil_mllama as mllama

        tiling = Canvas()
        for width, height in sizes(500):
            plan = tiling.plan((width, height))
            canvas = mllama.get_optimal_tiled_canvas(height, width, 4, 560)
            assert tuple(560 * count for count in plan.grid) == tuple(canvas)
            assert plan.whole[::-1] == mllama.get_image_size_fit_to_canvas(height, width, *canvas, 560)
        size = {"height": 560, "width": 560}
        processor = mllama.MllamaImageProcessorPil(do_rescale=False, do_normalize=False, size=size)
        data = picture(301, 777)
        published = processor(opened(data), return_tensors="np", resample=2)
        tiles = tiling.decode(data)
        np.testing.assert_array_equal(
            published["pixel_values"][0, 0, : len(tiles)].transpose(0, 2, 3, 1), tiles
        )
        assert published["aspect_ratio_ids"][0, 0] == tiling.number((301, 777))
