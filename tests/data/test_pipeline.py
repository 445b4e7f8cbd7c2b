import itertools

import numpy as np
import pytest
from pictures import records

from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.tokenizer import EOS, Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError

BATCH = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "world", {"train": records(21)}, {}).directory


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["thing"], 300)


@pytest.fixture
def make(world, tokenizer):
    def make(**settings):
        return Pipeline(DataConfig(source=world, image_size=16, text_length=12, **settings), tokenizer)

    return make


def take(pipeline, steps, **options):
    """The first `steps` batches, with their iterator closed."""
    options = {"batch_size": BATCH, "seed": 0, **options}
    iterator = pipeline.train(options.pop("batch_size"), options.pop("seed"), **options)
    batches = list(itertools.islice(iterator, steps))
    iterator.close()
    return batches


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def order(batches):
    return [int(index) for batch in batches for index in batch["index"]]


def test_batches_have_the_promised_shapes_and_types(make):
    pipeline = make()
    expected = {name: (array.shape, array.dtype) for name, array in pipeline.example_batch(BATCH).items()}
    assert expected["image"] == ((BATCH, 1, 16, 16, 3), np.uint8)
    assert expected["image_valid"] == ((BATCH, 1), bool)
    assert expected["index"] == ((BATCH,), np.int32)
    assert expected["targets"] == ((BATCH, 12), np.int32)
    for batch in [*take(pipeline, 1), *pipeline.evaluate(BATCH)]:
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == expected


def test_a_row_is_its_record(make, tokenizer):
    pipeline = make(augment=None)
    [batch] = take(pipeline, 1)
    for row, index in enumerate(batch["index"]):
        assert tokenizer.decode(batch["tokens"][row][1:]) == pipeline.captions[index] == f"thing {index}"
        picture = pipeline.config.image_spec.load(pipeline.record(index).image)
        np.testing.assert_array_equal(batch["image"][row, 0], picture)
        assert EOS in batch["targets"][row] and batch["image_valid"][row].all()


def test_batches_are_a_function_of_seed_and_step(make):
    first = take(make(), 6)
    assert_same(first, take(make(), 6))
    assert_same(first, take(make(threads=0), 6))
    assert_same(first, take(make(threads=4, cache_megabytes=0), 6))
    assert order(first) != order(take(make(), 6, seed=1))


def test_a_neighbouring_seed_is_not_a_shifted_epoch(make):
    """Per-epoch seeds that count up from the seed would make seed 1 replay seed 0 from its second epoch."""
    zero, one = (order(take(make(), 21, batch_size=3, seed=seed)) for seed in (0, 1))
    assert zero[21:42] != one[:21]


def test_every_epoch_is_another_permutation(make):
    seen = order(take(make(), 21))  # eight epochs of 21 records
    epochs = [seen[start : start + 21] for start in range(0, len(seen), 21)]
    assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert epochs[0] != sorted(epochs[0])


def test_augmentation_differs_between_epochs_and_seeds(make):
    def picture_of_record_0(seed, epoch):
        for batch in take(make(), 7, batch_size=3, seed=seed, start_step=7 * epoch):
            if 0 in batch["index"]:
                return batch["image"][list(batch["index"]).index(0)]

    pictures = [picture_of_record_0(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for one, other in itertools.combinations(pictures, 2):
        assert (one != other).any()


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_sees_the_same_global_batches(make, count):
    whole = take(make(), 6, start_step=2)
    parts = [take(make(), 6, start_step=2, process_index=p, process_count=count) for p in range(count)]
    rows = BATCH // count
    for p, part in enumerate(parts):
        assert all(len(batch["index"]) == rows for batch in part)
        block = [{k: v[p * rows : (p + 1) * rows] for k, v in batch.items()} for batch in whole]
        assert_same(part, block)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 8, 13])  # epochs end within steps 2, 5, 7, 10, 13
def test_resuming_at_any_step_equals_not_stopping(make, step):
    assert_same(take(make(), 3, start_step=step), take(make(), 16)[step : step + 3])


def test_evaluation_is_one_padded_pass_in_record_order(make):
    pipeline = make()
    batches = list(pipeline.evaluate(BATCH))
    assert order(batches) == [*range(21), -1, -1, -1]
    last = batches[-1]
    assert not last["image_valid"][5:].any() and not last["segment"][5:].any()
    assert (last["targets"][5:] == -1).all()
    assert_same(batches, list(make(augment=None, threads=0).evaluate(BATCH)))


def test_a_batch_larger_than_the_split(make):
    [batch] = make().evaluate(32)
    assert (batch["index"] >= 0).sum() == 21
    [batch] = take(make(), 1, batch_size=32)
    assert sorted(batch["index"][:21]) == list(range(21))


def test_length_and_captions(make):
    pipeline = make()
    assert len(pipeline) == 21 == len(pipeline.captions)
    assert pipeline.problems == []


def test_user_errors(make, world, tmp_path):
    with pytest.raises(UserError, match=r"training\.batch_size is 8: use a multiple of the 3 processes"):
        make().train(8, 0, process_count=3)
    with pytest.raises(UserError, match="has no split 'tset': use train"):
        make(split="tset")
    with pytest.raises(UserError, match="several <image>"):
        make(template="<image><image>{caption}")
    with pytest.raises(UserError, match=r"there is no world in .*: run `mmjax data build"):
        train_tokenizer(DataConfig(source=str(tmp_path)))
    empty = write(tmp_path / "empty", {"train": []}, {}).directory
    with pytest.raises(UserError, match=r"'train' of .* is empty"):
        Pipeline(DataConfig(source=empty), Tokenizer.train([], 268))
