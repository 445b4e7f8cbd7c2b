"""Mixtures: who gives which row is known without counting, and changing the future leaves the past alone."""

import hashlib
import itertools
import json

import numpy as np
import pytest
from pictures import noise

from mmjax.data.mixtures import BLOCK, Mixture
from mmjax.data.pipeline import DataConfig, Pipeline
from mmjax.data.records import Conversation, Record, Turn
from mmjax.data.tokenizer import Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError

BATCH, STEPS = 8, 11


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Three sources: captions, more captions, conversations of several pictures."""
    directory = tmp_path_factory.mktemp("mixture")
    captions = [
        [Record(id=f"{n}-{i}", image=noise(i, 8), caption="thing " * (1 + i % 4)) for i in range(count)]
        for n, count in (("a", 115), ("b", 45))
    ]
    talks = [
        Conversation(
            id=f"c-{i}",
            images=tuple(noise(i + k, 8) for k in range(1 + i % 2)),
            turns=(Turn("user", "<image>" * (1 + i % 2) + "what?"), Turn("assistant", "a thing")),
        )
        for i in range(70)
    ]
    return tuple(
        write(directory / name, {"train": records}, {}).directory
        for name, records in zip("abc", (*captions, talks), strict=True)
    )


@pytest.fixture
def make(sources):
    tokenizer = Tokenizer.train(["thing"], 300)

    def make(weights=(2.0, 1.0, 1.0), **settings):
        shared = dict(
            mixture=tuple(zip(sources, weights, strict=True)),
            image_size=8,
            images=4,
            text_length=40,
            template="<bos><image>{caption}<eos>",
            index_directory="",
            threads=0,
        )
        return Pipeline(DataConfig(**{**shared, **settings}), tokenizer)

    return make


def take(pipeline, steps=STEPS, **options):
    iterator = pipeline.train(BATCH, 5, **options)
    batches = list(itertools.islice(iterator, steps))
    iterator.close()
    return batches


def hashes(batches):
    """One hash per step of the ids of the examples of a global batch."""
    ids = [batch.get("members", batch["index"]).tolist() for batch in batches]
    return [hashlib.sha256(json.dumps(step).encode()).hexdigest() for step in ids]


def counted(mixture, draws):
    seen = {}
    for draw in draws:
        source, before = mixture.locate(draw)
        assert before == seen.get(source, 0)
        seen[source] = before + 1
    return seen


def test_each_source_is_counted_without_gaps_through_blocks_and_stages():
    stages = [
        (0, (3.0, 1.0, 0.0)),
        (5_000, (1.0, 1.0, 2.0)),
        (5_003, (0.0, 0.0, 1.0)),
        (9_000, (1.0, 0.0, 0.0)),
    ]
    seen = counted(Mixture(stages, 1), range(12_000))
    assert sum(seen.values()) == 12_000
    assert seen[2] == pytest.approx(3_997, abs=3) and seen[1] == pytest.approx(1_250, abs=30)


def test_weights_hold_in_every_block_and_a_small_one_is_not_lost():
    mixture = Mixture([(0, (0.5, 0.49999, 0.00001))], 0)
    for block in (0, 1, 10**9):
        drawn = [mixture.locate(block * BLOCK + at)[0] for at in range(BLOCK)]
        assert np.bincount(drawn).tolist() == [2048, 2047, 1]
    early = np.bincount([mixture.locate(at)[0] for at in range(200)], minlength=3)
    assert abs(early[0] - 100) < 30


def test_a_draw_depends_on_the_seed_but_far_ones_need_none_before_them():
    one, other = (Mixture([(0, (1.0, 1.0))], seed) for seed in (0, 1))
    assert [one.locate(at)[0] for at in range(99)] != [other.locate(at)[0] for at in range(99)]
    far = BLOCK * 10**9
    counts = {0: BLOCK // 2 * 10**9, 1: BLOCK // 2 * 10**9}
    for at in range(far, far + 50):
        source, before = Mixture([(0, (1.0, 1.0))], 0).locate(at)
        assert before == counts[source]
        counts[source] += 1


@pytest.mark.parametrize("weights", [(), (1.0, -1.0), (0.0, 0.0), (float("nan"), 1.0)])
def test_weights_that_make_no_sense(weights):
    with pytest.raises(UserError, match=r"data\.mixture"):
        Mixture([(0, weights)], 0)


def test_stages_that_make_no_sense():
    with pytest.raises(UserError, match="ever later steps"):
        Mixture([(0, (1.0,)), (5, (1.0,)), (5, (1.0,))], 0)
    with pytest.raises(UserError, match="one weight for each source"):
        Mixture([(0, (1.0,)), (5, (1.0, 2.0))], 0)


@pytest.mark.parametrize("pack", [False, True])
def test_global_batches_are_the_same_with_1_2_and_4_processes_and_after_resuming_on_another_count(make, pack):
    settings = dict(pack=pack, stages=((4, (0.0, 1.0, 1.0)), (9, (1.0, 0.0, 0.0))))
    whole = take(make(**settings))
    expected = hashes(whole)
    assert len(set(expected)) == STEPS
    for count, first in ((2, 0), (4, 5), (1, 9)):
        options = dict(start_step=first, process_count=count)
        parts = [take(make(**settings), STEPS - first, process_index=p, **options) for p in range(count)]
        joined = [
            {name: np.concatenate([part[name] for part in step]) for name in step[0]}
            for step in zip(*parts, strict=True)
        ]
        assert hashes(joined) == expected[first:]
        for one, other in zip(joined, whole[first:], strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("pack", [False, True])
def test_new_weights_at_a_step_change_nothing_before_it(make, pack):
    plain = hashes(take(make(pack=pack)))
    changed = hashes(take(make(pack=pack, stages=((6, (0.0, 0.0, 1.0)),))))
    later = hashes(take(make(pack=pack, stages=((6, (0.0, 0.0, 1.0)), (9, (1.0, 0.0, 0.0))))))
    assert changed[:6] == plain[:6] and changed[6] != plain[6]
    assert later[:9] == changed[:9] and later[9] != changed[9]


def test_every_source_walks_its_own_permutation_wherever_its_rows_fall(make):
    """Weights decide when a record of a source comes, never which: its order is that of any other mixture."""

    def walk(weights, low, high):
        indices = [int(index) for batch in take(make(weights, augment=None), 20) for index in batch["index"]]
        return [index for index in indices if low <= index < high]

    for low, high in ((0, 115), (115, 160), (160, 230)):
        one, other = walk((2.0, 1.0, 1.0), low, high), walk((1.0, 1.0, 3.0), low, high)
        shared = min(len(one), len(other))
        assert shared > 20 and one[:shared] == other[:shared]
        epoch = one[: high - low]
        assert len(epoch) < high - low or sorted(epoch) == list(range(low, high)) != epoch


def test_records_are_numbered_through_the_sources(make):
    pipeline = make(augment=None)
    assert len(pipeline) == 230 == len(pipeline.captions)
    assert [pipeline.record(index).id for index in (0, 114, 115, 159, 160, 229)] == [
        "a-0", "a-114", "b-0", "b-44", "c-0", "c-69",
    ]  # fmt: skip
    indices = [int(index) for batch in pipeline.evaluate(10) for index in batch["index"]]
    assert indices == list(range(230))
    [batch] = take(pipeline, 1)
    for row, index in enumerate(batch["index"]):
        assert pipeline.captions[index].replace("<image>", "")[:5] in pipeline.tokenizer.decode(
            batch["tokens"][row]
        )


def test_a_config_says_where_the_data_is_once(sources):
    with pytest.raises(UserError, match="both a source and a mixture"):
        DataConfig(source=sources[0], mixture=((sources[1], 1.0),))
    with pytest.raises(UserError, match=r"data\.stages changes the weights"):
        DataConfig(source=sources[0], stages=((3, (1.0,)),))
