import functools
import types

import colours
import jax
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evaluation import image_quality
from mmjax.evaluation.image_quality import ImageQuality, Moments, cmmd, fid, frechet_distance

KEY = jax.random.key(0)


def _commuting(rng, size):
    """Two covariances with the same eigenvectors, whose distance has a closed form."""
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    values = rng.uniform(0.1, 3, (2, size))
    return [(basis * value) @ basis.T for value in values], values


def test_closed_forms():
    zero, one = np.zeros(64), np.eye(64)
    assert frechet_distance(zero, one, zero, 4 * one) == pytest.approx(64, rel=1e-12)  # (2 - 1)^2 per axis
    assert frechet_distance(zero, one, zero + 0.1, one) == pytest.approx(0.64, rel=1e-12)
    rng = np.random.default_rng(0)
    (first, second), values = _commuting(rng, 12)
    means = rng.normal(size=(2, 12))
    expected = np.square(means[0] - means[1]).sum() + np.square(np.sqrt(values[0]) - np.sqrt(values[1])).sum()
    assert frechet_distance(means[0], first, means[1], second) == pytest.approx(expected, rel=1e-10)


def test_the_general_case_against_the_eigenvalues_of_the_product():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(50, 6)) + 0.5
    first, second = np.cov(one.T), np.cov(other.T)
    roots = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    apart = np.square(one.mean(0) - other.mean(0)).sum()
    expected = apart + np.trace(first) + np.trace(second) - 2 * roots
    assert fid(Moments.of(one), Moments.of(other)) == pytest.approx(expected, rel=1e-10)
    assert fid(Moments.of(other), Moments.of(one)) == pytest.approx(expected, rel=1e-10)


def test_fewer_pictures_than_features():
    rng = np.random.default_rng(2)
    one = rng.normal(size=(5, 30))
    assert fid(Moments.of(one), Moments.of(one)) == pytest.approx(0, abs=1e-9)
    assert fid(Moments.of(one), Moments.of(one + 1)) == pytest.approx(30, rel=1e-9)


def test_moments_are_those_of_numpy_in_batches_of_any_size_and_order():
    rng = np.random.default_rng(3)
    rows = 1e4 + rng.normal(size=(37, 5))  # far from zero: sums of squares would lose eight digits
    whole = Moments.of(rows)
    np.testing.assert_allclose(whole.mean, rows.mean(0), rtol=1e-14)
    np.testing.assert_allclose(whole.covariance, np.cov(rows.T), rtol=1e-12, atol=1e-12)
    pieces = Moments.over(part for part in np.split(rng.permutation(rows), [1, 4, 20]))
    assert pieces.count == 37
    np.testing.assert_allclose(pieces.covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    with pytest.raises(UserError, match="at least two pictures"):
        Moments.of(rows[:1])


def test_cmmd_closed_forms(monkeypatch):
    one, other = np.eye(2)[:1], np.eye(2)[1:]
    assert cmmd(one, other) == pytest.approx(19.9003325, abs=1e-6)  # 2000 (1 - exp(-2 / 200))
    assert cmmd(one, -one) == pytest.approx(39.6026534, abs=1e-6)
    assert cmmd(one, one) == 0
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(9, 3)), rng.normal(size=(7, 3))
    kernel = lambda a, b: np.mean([[np.exp(-((x - y) ** 2).sum() / 200) for x in a] for y in b])  # noqa: E731
    expected = 1000 * (kernel(one, one) + kernel(other, other) - 2 * kernel(one, other))
    assert cmmd(one, other) == pytest.approx(expected, abs=1e-9)
    monkeypatch.setattr(image_quality, "_BLOCK", 4)
    assert cmmd(rng.permutation(one), other) == pytest.approx(expected, abs=1e-9)


def _mean_colour(pictures, *, scale=1.0):
    return scale * np.asarray(pictures, np.float64).mean(axis=(1, 2))


def test_a_painter_that_knows_and_one_that_does_not(tmp_path):
    pipeline = colours.pipeline(tmp_path)
    features = functools.partial(_mean_colour, scale=1 / 255)
    evaluator = ImageQuality(features=features, batch_size=16, steps=1)
    good = evaluator(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)
    assert good["count"] == colours.COUNT
    assert good["frechet_distance"] < 1e-4 < good["real_frechet_distance"]
    assert good["cmmd"] < 1e-3 < good["real_cmmd"]
    with pytest.raises(UserError, match="--judge"):
        ImageQuality()(colours.Painter(), colours.parameters(pipeline), pipeline, key=KEY)


def test_intervals_hold_the_figure_and_do_not_know_the_order_of_the_records():
    rng = np.random.default_rng(3)
    drawn, real = rng.integers(0, 200, (40, 2, 2, 3)), rng.integers(60, 256, (40, 2, 2, 3))
    evaluator = ImageQuality(features=functools.partial(_mean_colour, scale=1 / 255))
    found = evaluator.compare(drawn, real)
    for name in ("frechet_distance", "cmmd", "real_frechet_distance", "real_cmmd"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    assert found["frechet_distance_low"] > found["real_frechet_distance_high"]  # the shift is no accident
    order = rng.permutation(40)
    assert evaluator.compare(drawn[order], real[order]) == pytest.approx(found, rel=1e-9)
    assert "cmmd_low" not in ImageQuality(features=evaluator.features, resamples=0).compare(drawn, real)


def test_the_judge_sees_whatever_the_batch_size(tmp_path):
    pipeline, rng = colours.pipeline(tmp_path), np.random.default_rng(5)
    params = colours.parameters(pipeline)["clip"]
    judge = types.SimpleNamespace(
        system=colours.Painter(), params=params, tokenizer=pipeline.tokenizer, data_config=pipeline.config
    )
    real = np.broadcast_to(colours.PALETTE[:, None, None], (colours.COUNT, 4, 4, 3))
    dark = (real * rng.uniform(0.1, 0.5, (len(real), 1, 1, 1))).astype(np.uint8)
    found = [ImageQuality(judge=judge, batch_size=size).compare(dark, real) for size in (7, 16)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert 0 < found[0]["real_frechet_distance"] < found[0]["frechet_distance"]
    assert 0 < found[0]["real_cmmd"] < found[0]["cmmd"]
