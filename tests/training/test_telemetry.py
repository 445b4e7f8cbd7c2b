"""Where time goes, the share of the chips' peak, windows of the profiler."""

import types

import jax
import pytest
from toy_run import run

from mmjax.errors import UserError
from mmjax.training import metrics, telemetry
from mmjax.training.telemetry import Telemetry, Window, peak_flops


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def device(kind="TPU v5 lite", *, coords=(0, 0, 0), peak=None):
    return types.SimpleNamespace(
        device_kind=kind,
        coords=coords,
        slice_index=0,
        process_index=0,
        id=0,
        memory_stats=lambda: peak and {"peak_bytes_in_use": peak},
    )


@pytest.fixture
def told():
    """Metrics of four updates of 10 s each on two v5e chips, after a start of 60 s and a save of 30 s."""
    clock = Clock()
    chips = [device(peak=5), device(coords=(1, 0, 0), peak=7)]
    telemetry = Telemetry(batch_size=32, devices=chips, clock=clock, model_flops=394e12)

    def spend(phase, seconds):
        with telemetry.phase(phase):
            clock.now += seconds

    spend("restore", 10)
    spend("compile", 50)
    telemetry.count()
    first = telemetry.metrics()
    for _ in range(4):
        spend("input", 1)
        spend("dispatch", 2)
        spend("device", 6)
        clock.now += 1  # the loop itself
        telemetry.count()
    spend("save", 30)
    return first, telemetry.metrics()


def test_the_line_that_waits_for_the_compiler_has_no_rates(told):
    assert told[0] == {"seconds/compile": 50, "memory/peak_bytes": 7}


def test_the_time_of_an_update_is_split_and_saving_is_no_part_of_it(told):
    line = told[1]
    assert line["seconds/step"] == pytest.approx(10)
    assert [line[f"seconds/{name}"] for name in telemetry.UPDATE] == pytest.approx([1, 2, 6])
    assert line["examples_per_second"] == pytest.approx(3.2)
    assert line["input_wait_share"] == pytest.approx(0.1)
    assert line["goodput"] == pytest.approx(36 / 130)


def test_mfu_is_the_share_of_what_all_chips_can_do(told):
    # 2 FLOP per multiply-add in 10 s, on two chips of 197 TFLOP/s.
    assert told[1]["model_flops_per_second"] == pytest.approx(39.4e12)
    assert told[1]["mfu"] == pytest.approx(0.1)
    assert told[1]["memory/peak_bytes"] == 7


def test_the_cores_of_one_chip_count_once_and_an_unknown_device_has_no_peak():
    cores = [device("TPU v4", coords=(0, 0, 0)), device("TPU v4", coords=(0, 0, 0))]
    assert peak_flops(cores) == 275e12
    assert peak_flops(jax.devices()) is None
    assert peak_flops([device("NVIDIA A100-SXM4-80GB")]) == 312e12


def test_the_phase_can_be_asked_for():
    telemetry = Telemetry(batch_size=1, devices=[device()])
    assert telemetry.doing == "start"
    with telemetry.phase("input"):
        assert telemetry.doing == "input"
    assert telemetry.doing == "start"


def test_a_run_logs_where_its_time_went_and_what_was_observed_and_profiles_a_window(tmp_path):
    run(
        tmp_path,
        steps=8,
        log_every=2,
        observe=lambda: {"data/problems/broken": 3},
        profile=Window.parse("3:2"),
    )
    first, *rest = metrics.read(tmp_path / "metrics.jsonl")
    assert first["seconds/compile"] > 0
    assert "examples_per_second" not in first
    for line in rest:
        parts = [line[f"seconds/{name}"] for name in telemetry.UPDATE]
        assert 0 < sum(parts) <= line["seconds/step"] * 1.0001
        assert 0 <= line["input_wait_share"] <= 1
        assert 0 < line["goodput"] < 1
        assert line["data/problems/broken"] == 3
        # 16 rows through up (both ways: its input has a trained part), head, and forward through `frozen`.
        products = 16 * (3 * 16 * 32 + 3 * 32 * 8 + 16 * 16)
        assert line["model_flops_per_second"] * line["seconds/step"] == pytest.approx(2 * products)
        assert "mfu" not in line
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("text", ["20", "20:", "a:b", "0:3", "5:0", "-1:2"])
def test_a_window_that_cannot_be(text):
    with pytest.raises(UserError, match=r"--profile=.* is not of the form START:COUNT, such as 20:5"):
        Window.parse(text)
