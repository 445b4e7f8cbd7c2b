"""What is known before a program is compiled: its batch, its FLOPs, and which layouts are worth a try."""

import dataclasses
import types

import jax
import pytest
from flax import linen as nn

from mmjax import config as configs
from mmjax.data.pipeline import Pipeline, train_tokenizer
from mmjax.errors import UserError
from mmjax.planning import programs, search
from mmjax.planning.compiler import OutOfMemory
from mmjax.sharding.chips import CHIPS, GIB
from mmjax.sharding.topology import Topology
from mmjax.systems.dit import DiT
from mmjax.training import optimizers
from mmjax.training.state import abstract_params
from mmjax.training.trainer import model_flops


@pytest.fixture(scope="module")
def experiment():
    config = configs.override(configs.load("language:tiny"), ["--config.model.decoder.transformer.depth=4"])
    return configs.experiment(config)


def test_a_batch_from_the_config_alone_is_that_of_the_pipeline(tiny_world):
    config = configs.load("clip:tiny")
    config.data.source = tiny_world
    data = configs.experiment(config).data
    real = Pipeline(data, train_tokenizer(data)).example_batch(6)
    told = programs.batch_shapes(data, 6)
    assert {name: (array.shape, array.dtype) for name, array in told.items()} == {
        name: (array.shape, array.dtype) for name, array in real.items()
    }


def test_a_sampler_is_planned_for_whatever_holds_the_classes():
    experiment = configs.experiment(configs.load("dit:tiny"))
    program = programs.sampling(experiment, jax.devices()[:1], batch_size=2, steps=1)
    assert experiment.system.label == "index" and program.lower() is not None


def flops(experiment, system):
    boxed = abstract_params(system)
    treatments = optimizers.treat(system.treatments(), boxed)
    batch = programs.batch_shapes(experiment.data, 8)
    return model_flops(system, treatments, nn.meta.unbox(boxed), batch)


def test_model_flops_are_those_of_the_paper_whatever_is_recomputed(experiment):
    c, system = experiment.system.decoder, experiment.system
    width, tokens = c.transformer.width, 8 * experiment.data.text_length
    layer = 4 * width**2 + 8 * width**2  # attention's four matrices, the two of the MLP
    attention = 2 * experiment.data.text_length * width
    matrices = c.transformer.depth * (layer + attention) + width * c.vocabulary_size
    assert flops(experiment, system) == 6 * tokens * matrices
    assert flops(experiment, configs.replaced(system, remat="full")) == 6 * tokens * matrices


def test_what_the_backward_pass_keeps_depends_on_the_policy(experiment):
    kept = {policy: search._kept_per_row(experiment, policy) for policy in (None, "dots", "full")}
    assert kept["full"] < kept["dots"] < kept[None]
    width, length = experiment.system.decoder.transformer.width, experiment.data.text_length
    residual = 4 * width * length  # one float32 state a layer is the least that can be kept
    assert kept["full"] >= experiment.system.decoder.transformer.depth * residual


def one_chip(hbm):
    chip = dataclasses.replace(CHIPS["v5e"], hbm=hbm)
    return Topology(name="v5e:1x1", chip=chip, sides=(1, 1), slices=1, devices=jax.devices()[:1])


def compiled(seconds, peak):
    memory = types.SimpleNamespace(peak=peak, fits=peak < GIB)
    roofline = types.SimpleNamespace(step=seconds, without_overlap=seconds, bound="HBM", mfu=lambda _: 0.5)
    return types.SimpleNamespace(memory=memory, roofline=roofline)


def test_search_tries_the_likeliest_first_and_ranks_what_fits(experiment, monkeypatch):
    tried = []
    monkeypatch.setattr(search, "_kept_per_row", lambda experiment, remat: 1e6)

    def pretend(program, topology):
        tried.append(program)
        if len(tried) == 1:
            raise OutOfMemory("too much", 2 * GIB)
        return compiled(seconds=5.0 - len(tried), peak=GIB // 2 if len(tried) != 4 else 2 * GIB)

    monkeypatch.setattr(search, "compile_program", pretend)
    found = search.search(experiment, one_chip(16 * GIB), tries=4)
    assert [each.report and each.report.roofline.step for each in found] == [2.0, 3.0, 1.0, None]
    assert [each.fits for each in found] == [True, True, False, False]
    assert found[3].layout.remat is None  # nothing recomputed was tried first
    lines = search.table(found).splitlines()
    assert len(lines) == 5 and "too much" in lines[-1]
    assert [line.split()[-5] for line in lines[1:]] == ["HBM", "HBM", "memory", "memory"]


def test_what_was_compiled_corrects_the_estimates_of_the_same_policy(experiment, monkeypatch):
    peaks = iter([1e6 * GIB, 1, 1])
    monkeypatch.setattr(search, "_kept_per_row", lambda experiment, remat: 1e6)
    monkeypatch.setattr(search, "compile_program", lambda *_: compiled(seconds=1.0, peak=next(peaks)))
    found = search.search(experiment, one_chip(16 * GIB), tries=3)
    assert [each.fits for each in found] == [True, True, False]
    policies = [each.layout.remat for each in found]
    assert (
        policies[2] is None and None not in policies[:2]
    )  # with more microbatches it would be too large as well


def test_an_interrupted_search_ranks_what_it_has(experiment, monkeypatch, capsys):
    reports = iter([compiled(seconds=2.0, peak=1), compiled(seconds=1.0, peak=1)])

    def pretend(program, topology):
        try:
            return next(reports)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(search, "_kept_per_row", lambda experiment, remat: 1e6)
    monkeypatch.setattr(search, "compile_program", pretend)
    found = search.search(experiment, one_chip(16 * GIB), tries=4)
    assert [each.report.roofline.step for each in found] == [1.0, 2.0]
    told = capsys.readouterr().err
    assert "2000.0 ms" in told and "stopped after 2 of 4 layouts" in told
    with pytest.raises(KeyboardInterrupt):
        search.search(experiment, one_chip(16 * GIB), tries=4)


def test_search_compiles_nothing_that_cannot_fit(experiment, monkeypatch):
    monkeypatch.setattr(search, "_kept_per_row", lambda experiment, remat: 1e6)
    monkeypatch.setattr(search, "compile_program", None)
    with pytest.raises(
        UserError, match=r"no layout of this step fits v5e:1x1: the smallest is estimated at 0"
    ):
        search.search(experiment, one_chip(2**20), tries=2)


def test_microbatches_of_what_compares_rows_come_after_those_that_cost_less():
    layouts = [
        search.Layout(sizes=tuple(dict(data=8, fsdp=1, tensor=1, sequence=1).items()), rules="replicated",
                      remat=remat, accumulate=accumulate)
        for remat, accumulate in ((None, 1), (None, 4), ("dots", 1), ("full", 1))
    ]  # fmt: skip
    for name, order in (("language:tiny", [0, 1, 2, 3]), ("clip:tiny", [0, 2, 3, 1])):
        system = configs.experiment(configs.load(name)).system
        ranked = sorted(layouts, key=lambda layout: search._likely_slow(layout, system))
        assert [layouts.index(layout) for layout in ranked] == order


def test_layouts_multiply_to_the_devices_and_divide_the_rows(experiment):
    topology = types.SimpleNamespace(devices=[None] * 8)
    for layout in search.layouts(experiment, topology):
        sizes = dict(layout.sizes)
        assert sizes["data"] * sizes["fsdp"] * sizes["tensor"] * sizes["sequence"] == 8
        assert experiment.training.batch_size % (sizes["data"] * sizes["fsdp"] * layout.accumulate) == 0
        laid = layout.of(experiment)
        assert laid.system.decoder.transformer.remat == layout.remat
        assert laid.sharding.mesh_sizes(8) == sizes


def test_a_system_without_the_ability_is_told(experiment):
    with pytest.raises(UserError, match="--sample: LanguageModel has no draw_class or draw"):
        programs.sampling(experiment, jax.devices()[:1], batch_size=1, steps=1)
    assert not hasattr(DiT, "generate")
