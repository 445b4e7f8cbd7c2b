"""Packing: rows are full, a function of the records alone, and their documents do not see each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import noise

from mmjax.data.documents import DocumentLayout
from mmjax.data.packing import pack
from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.records import Document, Record
from mmjax.data.tokenizer import IMAGE
from mmjax.data.worlds.world import write
from mmjax.errors import UserError
from mmjax.language.decoder import DecoderConfig
from mmjax.layers import masks
from mmjax.layers.queries import ResamplerConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.flamingo import Flamingo

LENGTH, IMAGES, BATCH = 48, 6, 4


def documents(count):
    rng = np.random.default_rng(1)
    for number in range(count):
        pictures, parts = int(rng.integers(1, 4)), []
        for k in range(pictures):
            parts += [
                noise(number * 4 + k, 8),
                "".join(rng.choice(list("0123456789"), int(rng.integers(2, 13)))),
            ]
        yield Document(id=f"d{number}", parts=tuple(parts))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    captions = [Record(id=f"c{i}", image=noise(i, 8), caption="thing " * (1 + i % 7)) for i in range(40)]
    return write(directory / "world", {"train": [*documents(60), *captions]}, {}).directory


@pytest.fixture(scope="module")
def tokenizer(world):
    return train_tokenizer(DataConfig(source=world, vocabulary_size=300))


@pytest.fixture
def make(world, tokenizer, tmp_path):
    def make(**settings):
        shared = dict(
            source=world,
            image_size=8,
            images=IMAGES,
            text_length=LENGTH,
            template="<bos><image>{caption}<eos>",
            pack=True,
            index_directory=str(tmp_path),
            threads=0,
        )
        return Pipeline(DataConfig(**{**shared, **settings}), tokenizer)

    return make


def take(pipeline, steps, **options):
    iterator = pipeline.train(BATCH, 0, **options)
    batches = list(itertools.islice(iterator, steps))
    iterator.close()
    return batches


@pytest.mark.parametrize(("median", "spread", "images"), [(60, 0.9, 0), (60, 0.9, 8), (150, 1.0, 4)])
def test_rows_of_log_normal_documents_are_at_least_95_percent_full(median, spread, images):
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(median), spread, 20_000).astype(int), 1, 512)
    pictures = rng.integers(0, 2, 20_000) * (images > 0)
    rows = pack(lengths, pictures, length=512, images=images)
    assert rows.fill >= 0.95
    assert sorted(rows.members) == list(range(20_000))
    totals = np.add.reduceat(lengths[rows.members], rows.starts[:-1])
    assert totals.max() <= 512 and totals.sum() / (512 * len(rows)) == pytest.approx(rows.fill)
    assert np.add.reduceat(pictures[rows.members], rows.starts[:-1]).max() <= images


def test_what_fits_into_no_row_is_left_out_and_the_fullest_row_is_filled_first():
    rows = pack(np.array([5, 0, 9, 3, 8, 4]), np.array([0, 0, 0, 0, 5, 1]), length=8, images=1)
    assert [sorted(row.tolist()) for row in map(rows.__getitem__, range(len(rows)))] == [[0, 3], [5]]
    assert rows.most == 2 and rows.fill == 12 / 16


def test_a_packed_row_is_its_documents_one_after_the_other(make, tokenizer):
    pipeline, plain = make(augment=None), make(augment=None, pack=False)
    alone = {int(row["index"][0]): row for row in plain.evaluate(1)}
    seen = []
    for batch in take(pipeline, len(pipeline._streams[0]) // BATCH + 1):
        for row in range(BATCH):
            members = [int(number) for number in batch["members"][row] if number >= 0]
            assert batch["index"][row] == members[0]
            seen += members
            start = picture = 0
            for segment, number in enumerate(members, start=1):
                own = alone[number]
                length, count = int((own["segment"] > 0).sum()), int(own["image_valid"].sum())
                for name in ("tokens", "targets", "positions", "block_start"):
                    np.testing.assert_array_equal(
                        batch[name][row, start : start + length], own[name][0, :length], err_msg=name
                    )
                assert (batch["segment"][row, start : start + length] == segment).all()
                np.testing.assert_array_equal(
                    batch["image"][row, picture : picture + count], own["image"][0, :count]
                )
                start, picture = start + length, picture + count
            assert not batch["segment"][row, start:].any() and (batch["targets"][row, start:] == -1).all()
            assert batch["image_valid"][row].sum() == picture == (batch["tokens"][row] == IMAGE).sum()
    assert set(seen) == set(range(100))


def test_packed_batches_are_the_same_for_any_number_of_processes_and_after_resuming(make):
    whole = take(make(), 6)
    for count in (2, 4):
        parts = [take(make(), 3, start_step=3, process_index=p, process_count=count) for p in range(count)]
        for step in range(3):
            for name, array in whole[3 + step].items():
                joined = np.concatenate([part[step][name] for part in parts])
                np.testing.assert_array_equal(joined, array, err_msg=name)


def test_the_index_of_lengths_is_read_back_and_belongs_to_its_layout(make, monkeypatch, tmp_path):
    first = take(make(), 2)
    [file] = tmp_path.iterdir()
    with monkeypatch.context() as context:
        context.setattr("mmjax.data.documents.DocumentLayout.sample", lambda *_, **__: pytest.fail("counted"))
        assert make()._streams[0].packed.fill == make().fill > 0.8
    second = make(document=DocumentLayout(images="after"))
    take(second, 1)
    assert len(list(tmp_path.iterdir())) == 2 and file.exists()
    assert all((a["members"] == b["members"]).all() for a, b in zip(first, take(make(), 2), strict=True))


def test_no_token_sees_another_document(make):
    [batch] = take(make(), 1)
    segment = jnp.asarray(batch["segment"])
    own = np.asarray(segment)[:, :, None] == np.asarray(segment)[:, None, :]
    seen = np.asarray(masks.self_attention_mask(jnp.asarray(batch["block_start"]), segment))
    assert seen.any() and not (seen & ~own).any()
    marker = jnp.asarray(batch["tokens"] == IMAGE)
    owner = masks.media_segment(marker, segment, IMAGES)
    looks = np.asarray(
        masks.latest_media_mask(masks.media_seen(marker), segment, jnp.asarray(batch["image_valid"]), owner)
    )
    assert looks.any() and (np.asarray(owner)[:, None] == np.asarray(segment)[:, :, None])[looks].all()


def test_changing_one_document_leaves_the_outputs_of_the_others_alone(make, tokenizer):
    [batch] = take(make(), 1)
    row = int(np.argmax(batch["segment"].max(1)))
    one = {name: array[row : row + 1] for name, array in batch.items()}
    first = one["segment"][0] == 1
    changed = {**one, "tokens": one["tokens"].copy(), "image": one["image"].copy()}
    changed["tokens"][0, first & (one["tokens"][0] != IMAGE)] = 100
    changed["image"][0, : (one["tokens"][0, first] == IMAGE).sum()] += 77
    size = dict(depth=1, width=8, heads=1, unroll=1)
    system = Flamingo(
        vision=VisionConfig(image_size=8, patch=4, transformer=TransformerConfig(**size)),
        resampler=ResamplerConfig(
            queries=2, transformer=TransformerConfig(**size, sublayers=("cross", "mlp"), context_norm=True)
        ),
        language=DecoderConfig(
            vocabulary_size=tokenizer.vocabulary_size,
            context_length=LENGTH,
            transformer=TransformerConfig(**size, rope_base=1e4),
            cross_every=1,
            gate_initial=1.0,
        ),
    )
    names = ("tokens", "positions", "block_start", "segment", "image", "image_valid")
    params = jax.jit(system.init)(jax.random.key(0))
    run = jax.jit(lambda batch: system.module.apply({"params": params}, *(batch[name] for name in names)))
    before, after = (np.asarray(run({name: of[name] for name in names}))[0] for of in (one, changed))
    others = one["segment"][0] > 1
    assert others.any() and np.abs(before[first] - after[first]).max() > 1e-3
    np.testing.assert_array_equal(before[others], after[others])


def test_buckets_give_batches_no_longer_than_they_need(make):
    lengths = (16, 24, LENGTH)
    pipeline = make(pack=False, buckets=lengths, images=IMAGES)
    batches = take(pipeline, 40)
    used = [batch["tokens"].shape[1] for batch in batches]
    assert set(used) == set(lengths)
    for batch, length in zip(batches, used, strict=True):
        longest = (batch["segment"] > 0).sum(1)
        assert (
            longest.max() <= length
            and longest.min() > dict(zip(lengths, (0, *lengths), strict=False))[length]
        )
    seen = {int(index) for batch in batches for index in batch["index"]}
    assert len(seen) > 90
    part = take(make(pack=False, buckets=lengths), 2, start_step=7, process_index=1, process_count=2)
    for step, batch in enumerate(part):
        np.testing.assert_array_equal(batch["tokens"], batches[7 + step]["tokens"][2:])


def test_user_errors(make):
    with pytest.raises(UserError, match="no <image> to tell whose picture"):
        make(template="<bos>{caption}<eos>")
    with pytest.raises(UserError, match=r"data\.buckets needs a single source and no packing"):
        make(buckets=(8, LENGTH))
    with pytest.raises(UserError, match=r"the last is data\.text_length=48"):
        make(pack=False, buckets=(8, 16))
