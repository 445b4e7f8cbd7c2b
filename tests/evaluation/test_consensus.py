"""Caption metrics: against coco-caption's recorded and live scores, a second implementation, and by hand."""

import collections
import itertools
import json
import math
import shutil
from pathlib import Path

import colours
import jax
import numpy as np
import pytest

from mmjax.evaluation import consensus, ptb
from mmjax.evaluation.captions import Described
from mmjax.evaluation.consensus import Consensus

KEY = jax.random.key(0)
GOLDEN = json.loads((Path(__file__).parent / "golden" / "coco_caption.json").read_text(encoding="utf-8"))
SAID, REFERENCES = GOLDEN["said"], GOLDEN["references"]


def test_words_are_those_of_the_java_tokenizer():
    assert [ptb.words(one) for one in SAID] == [one.split() for one in GOLDEN["words"]["said"]]
    for ours, theirs in zip(REFERENCES, GOLDEN["words"]["references"], strict=True):
        assert [ptb.words(one) for one in ours] == [one.split() for one in theirs]


def test_words_by_hand():
    words = ptb.words("A man (smiling) doesn't see the T-shirt, cannot he?")
    assert " ".join(words) == "a man -lrb- smiling -rrb- does n't see the t-shirt can not he"


def test_scores_are_those_of_coco_caption():
    found = consensus.score(SAID, REFERENCES)
    expected = {name: value for name, value in GOLDEN["scores"].items() if name != "each"}
    assert found["count"] == len(SAID)
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-9)
    said = [ptb.words(one) for one in SAID]
    references = [[ptb.words(one) for one in several] for several in REFERENCES]
    each = GOLDEN["scores"]["each"]
    np.testing.assert_allclose(consensus.cider_d(said, references), each["cider"], rtol=1e-9)
    np.testing.assert_allclose(consensus.rouge_l(said, references), each["rouge_l"], rtol=1e-9)


def _vector(words, n, documents):
    """tf-idf over an explicit, sorted vocabulary of all n-grams: a second way to the same numbers."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    vocabulary = sorted({g for several in documents for g in several} | set(grams))
    idf = [math.log(len(documents) / max(1, sum(g in several for several in documents))) for g in vocabulary]
    return dict(
        zip(vocabulary, [grams.count(g) * w for g, w in zip(vocabulary, idf, strict=True)], strict=True)
    )


def test_cider_against_an_explicit_vector_space():
    rng = np.random.default_rng(0)
    caption = lambda: list(rng.choice(list("abcde"), rng.integers(1, 8)))  # noqa: E731
    said, references = [caption() for _ in range(6)], [[caption() for _ in range(3)] for _ in range(6)]
    expected = np.zeros(6)
    for n in range(1, 5):
        documents = [
            {tuple(r[i : i + n]) for r in several for i in range(len(r) - n + 1)} for several in references
        ]
        for k, (one, several) in enumerate(zip(said, references, strict=True)):
            c = collections.defaultdict(float, _vector(one, n, documents))
            for r in several:
                v = _vector(r, n, documents)
                lengths = math.dist([0] * len(c), c.values()) * math.dist([0] * len(v), v.values())
                dot = sum(min(c[g], v[g]) * v[g] for g in v)
                if lengths:
                    expected[k] += 10 / 4 / 3 * dot / lengths * math.exp(-((len(one) - len(r)) ** 2) / 72)
    np.testing.assert_allclose(consensus.cider_d(said, references), expected, rtol=1e-12)
    assert expected.max() > 1


def test_longest_common_subsequence_by_trying_them_all():
    rng = np.random.default_rng(1)
    for _ in range(20):
        one, other = (list(rng.choice(list("abc"), 6)) for _ in range(2))
        subsequences = (
            {c for size in range(7) for c in itertools.combinations(words, size)} for words in (one, other)
        )
        longest = max(map(len, set.intersection(*subsequences)))
        assert consensus.longest_common(one, other) == longest


def test_bleu_by_hand():
    said, references = (
        [["the"] * 7],
        [list(map(ptb.words, ("the cat is on the mat", "there is a cat on the mat")))],
    )
    sums = consensus.bleu_rows(said, references).sum(axis=0)
    np.testing.assert_allclose(consensus.bleu(sums, 1), 2 / 7, rtol=1e-6)  # the paper's example of clipping
    short = consensus.bleu_rows([["the", "cat"]], [[["the", "cat", "sat"]]]).sum(axis=0)
    np.testing.assert_allclose(consensus.bleu(short, 2), math.exp(1 - 3 / 2), rtol=1e-6)


def test_the_order_of_the_records_does_not_matter():
    order = np.random.default_rng(3).permutation(len(SAID))
    one = consensus.score(SAID, REFERENCES)
    other = consensus.score([SAID[n] for n in order], [REFERENCES[n] for n in order])
    np.testing.assert_allclose(list(other.values()), list(one.values()), rtol=0, atol=1e-12)


def test_a_system_that_knows_and_one_that_does_not(tmp_path):
    pipeline = colours.pipeline(tmp_path)
    evaluate = lambda size, known: Consensus(batch_size=size)(  # noqa: E731
        colours.Painter(), colours.parameters(pipeline, known), pipeline, key=KEY
    )
    seeing = evaluate(16, colours.COUNT)
    # four words, of which 'colour' and 'number' are everywhere and weigh nothing: 4-gram to 1-gram all match
    np.testing.assert_allclose([seeing["cider"], seeing["bleu_4"], seeing["rouge_l"]], [10, 1, 1], rtol=1e-6)
    assert seeing["count"] == colours.COUNT and seeing["shuffled_cider"] < 0.1
    assert evaluate(16, 12) == evaluate(7, 12)
    assert evaluate(16, 0)["cider"] == 0


def test_one_picture_with_several_captions_counts_once():
    class Pipeline:
        def record(self, index):
            return type("Record", (), {"image": [b"x", b"y", b"x"][index]})

    described = Described(np.arange(3), ["a cat", "a dog", "a cat"], ["one cat", "one dog", "the cat"])
    gathered = consensus.gathered(described, Pipeline())
    assert gathered.said == ["a cat", "a dog"]
    assert gathered.references == [["one cat", "the cat"], ["one dog"]]
    assert Consensus().score(gathered, key=KEY)["count"] == 2


@pytest.mark.parity
def test_scores_are_those_of_coco_caption_live():
    pytest.importorskip("pycocoevalcap", reason="needs pip install --no-deps pycocoevalcap")
    from tools.golden.caption_metrics import scores

    rng = np.random.default_rng(7)
    vocabulary = ["a", "the", "cat", "dog", "on", "mat", "and", "two", "red", "sits"]
    caption = lambda: " ".join(rng.choice(vocabulary, rng.integers(1, 12)))  # noqa: E731
    said, references = [caption() for _ in range(40)], [[caption() for _ in range(5)] for _ in range(40)]
    expected = scores([one.split() for one in said], [[r.split() for r in several] for several in references])
    found = consensus.score(said, references)
    del expected["each"]
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-9)


@pytest.mark.parity
@pytest.mark.skipif(not shutil.which("java"), reason="Stanford's tokenizer needs a Java runtime")
def test_words_are_those_of_the_java_tokenizer_live():
    pytest.importorskip("pycocoevalcap", reason="needs pip install --no-deps pycocoevalcap")
    from tools.golden.caption_metrics import java

    rng = np.random.default_rng(8)
    parts = "a man 's dog, can't 5 3:30 t-shirt \"red\" (big) it's 'new' & p.m. end. 1,000 and/or won't"
    texts = [" ".join(rng.choice(parts.split(), rng.integers(1, 12))) for _ in range(300)]
    assert [ptb.words(text) for text in texts] == java(texts)
