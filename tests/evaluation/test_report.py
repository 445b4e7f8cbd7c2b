import html.parser
import re

import jax
import numpy as np
import pytest

from mmjax.evaluation.captions import Captions, Described
from mmjax.evaluation.charts import curve, nice_ticks
from mmjax.evaluation.generation import Drawn, Generation, Judged
from mmjax.evaluation.report import Report, Stage, render, sample
from mmjax.evaluation.retrieval import Embedded, Retrieval

COUNT = 20


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    captions = np.array([f"thing {n} & <co>" for n in range(COUNT)], object)
    pictures = rng.integers(0, 256, (COUNT, 8, 8, 3)).astype(np.uint8)
    vectors = np.eye(COUNT, dtype=np.float32)
    embedded = Embedded(np.arange(COUNT), vectors, vectors, captions)
    described = Described(np.arange(COUNT), ["thing 3 & <co>"] * COUNT, list(captions))
    judged = Judged(drawn=np.roll(vectors, 1, axis=0), real=vectors, text=vectors, captions=captions)
    stage = Stage(
        title="CLIP", purpose="finds", parameters=1_230_000, trained=450_000, steps=700, batch_size=64,
        seconds=12,
        curve=[(step, 1 / step) for step in range(100, 701, 100)],
    )  # fmt: skip
    retrieval = {"held_out": COUNT, **Retrieval().score(embedded)}
    return Report(
        metrics={
            "clip": retrieval,
            "judge": retrieval,
            "caption": Captions().score(described, key=jax.random.key(0)),
            "generation": Generation().score(judged),
            "seconds": {"data": 3, "evaluation": 4, "total": 754},
        },
        stages=[stage, stage],
        training_count=1234,
        pictures=pictures,
        embedded=embedded,
        described=described,
        drawn=Drawn(np.arange(COUNT), pictures, pictures, captions),
        judged=judged,
        attribution="Drawn by many hands",
        licence="CC BY-SA 4.0",
        command="mmjax quickstart",
        versions="mmjax 0.1.0",
    )


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and keeps the text and the addresses."""

    VOID = ("meta", "img", "br", "circle", "path", "polyline")

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.sources = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_well_formed_self_contained_and_says_everything(report):
    text = render(report)
    page = Page(text)
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "@import" not in text and "url(" not in text and "<script" not in text
    words = re.sub(r"\s+", " ", "".join(page.words))
    for expected in (
        "1,234 drawings", "100%", "12.6 min", "1.23 M", "0.45 M", "700", "Drawn by many hands",
        "CC BY-SA 4.0",
        "thing 3 & <co>", "the judge's guess number 2", "chance 0.25", "a person wrote",
    ):  # fmt: skip
        assert expected in words, expected
    assert text.count("<svg") == 2


def test_what_is_right_is_marked_and_nothing_else(report):
    text = render(report)
    assert text.count("class=hit") == 9  # a perfect encoder: one of five captions in each card
    assert text.count('class="hit"') == 6  # and one of five pictures in each strip
    shown = sample(COUNT, 12)
    assert text.count("the same words") == (3 in shown)


def test_examples_are_a_fixed_random_choice():
    np.testing.assert_array_equal(sample(100, 9), sample(100, 9))
    assert len(set(sample(100, 9))) == 9 and sample(100, 9).max() > 20
    np.testing.assert_array_equal(sample(3, 9), [0, 1, 2])


def test_ticks_are_round_and_enclose_the_values():
    for low, high in ((0.0, 4.7), (0.13, 0.98), (-2, 3e4), (5, 5), (0, 0)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 7
        np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_a_curve_goes_through_its_points():
    svg = curve([(1, 3.0), (2, 2.0), (3, float("nan")), (4, 1.0)], label="loss")
    points = [tuple(map(float, point.split(","))) for point in re.search('points="(.+?)"', svg)[1].split()]
    (x0, y0), (x1, y1), (x2, y2) = points  # the NaN is left out
    assert x0 < x1 < x2 and y0 < y1 < y2
    np.testing.assert_allclose((x2 - x1) / (x1 - x0), 2, rtol=0.02)
    assert "Too few" in curve([(1, 1.0)], label="loss")
