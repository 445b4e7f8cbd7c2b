import numpy as np
import pytest

from mmjax.evaluation import statistics


def test_the_interval_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = statistics.mean("m", values)
    assert found["m"] == pytest.approx(values.mean(), abs=1e-12)
    error = 1.96 * values.std() / 20  # of a mean of 400
    np.testing.assert_allclose(
        [found["m_low"], found["m_high"]], [found["m"] - error, found["m"] + error], atol=0.03
    )


def test_nine_in_ten_and_a_half_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    samples = rng.random((300, 60)) < 0.3
    ends = [statistics.mean("m", sample) for sample in samples]
    assert 0.9 < np.mean([one["m_low"] <= 0.3 <= one["m_high"] for one in ends]) < 0.98


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios():
    found = statistics.share("r", [1, 0, 9], [1, 0, 99])
    assert found["r"] == 0.1
    assert 0 <= found["r_low"] <= 0.1 <= found["r_high"] <= 1
    assert statistics.share("r", [0, 0], [0, 0]) == {"r": 0, "r_low": 0, "r_high": 0}


def test_the_order_of_the_records_changes_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    rows = rng.random((50, 2))
    metrics = lambda sums: {"r": sums[:, 0] / sums[:, 1]}  # noqa: E731
    one, other = statistics.figures(rows, metrics), statistics.figures(rng.permutation(rows), metrics)
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=0, atol=1e-12)


def test_draws_take_records_with_replacement():
    sums = statistics.draws(np.eye(5), resamples=400)
    np.testing.assert_array_equal(sums.sum(axis=1), 5)
    np.testing.assert_allclose(sums.mean(axis=0), 1, atol=0.15)
    assert (sums == 0).any() and (sums > 1).any()
    assert len(statistics.draws(np.ones((3, 1)), resamples=7)) == 7
