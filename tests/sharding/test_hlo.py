"""Programs read back from their text: shapes, groups of devices, loops and what they cost."""

import functools

import jax
import jax.numpy as jnp
import pytest

from mmjax.sharding import collectives, costs, hlo

LOOP = """HloModule counted

%body (state: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %state = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %one = s32[] constant(STEP)
  %next = s32[] add(%i, %one)
  %x = f32[4,8]{1,0} get-tuple-element(%state), index=1
  %w = f32[8,8]{1,0} broadcast(%one), dimensions={}
  %y = f32[4,8]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %all = f32[4,8]{1,0} all-reduce(%y), channel_id=1, replica_groups=[2,2]<=[4], to_apply=%sum
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%next, %all)
}

%condition (state: (s32[], f32[4,8])) -> pred[] {
  %state = (s32[], f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %limit = s32[] constant(LIMIT)
  ROOT %less = pred[] compare(COMPARED), direction=DIRECTION
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %start = s32[] constant(START)
  %copied = s32[] copy(%start)
  %state = (s32[], f32[4,8]{1,0}) tuple(%copied, %x)
  %loop = (s32[], f32[4,8]{1,0}) while(%state), condition=%condition, body=%body
  ROOT %result = f32[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def loop(*, start=0, step=1, limit=6, direction="LT", compared="%i, %limit"):
    values = {
        "START": start,
        "STEP": step,
        "LIMIT": limit,
        "DIRECTION": direction,
        "COMPARED": compared,
    }
    return functools.reduce(lambda text, item: text.replace(item[0], str(item[1])), values.items(), LOOP)


@pytest.mark.parametrize(
    ("settings", "trips"),
    [
        ({}, 6),
        ({"start": 2}, 4),
        ({"step": 2, "limit": 7}, 4),
        ({"direction": "LE"}, 7),
        ({"direction": "NE"}, 6),
        ({"direction": "GT", "compared": "%limit, %i"}, 6),
        ({"start": 9, "step": -3, "limit": 0, "direction": "GT"}, 3),
        ({"start": 8}, 0),
    ],
)
def test_a_loop_that_counts_is_counted(settings, trips):
    cost = costs.measure(loop(**settings), devices=4)
    product = 2 * 4 * 8 * 8
    assert cost.matmul_flops == trips * product
    assert sum(cost.collectives.values()) == trips
    assert not cost.loops


def test_a_loop_that_data_end_stands_apart():
    text = loop().replace("%limit = s32[] constant(6)", "%limit = s32[] get-tuple-element(%state), index=0")
    cost = costs.measure(text, devices=4)
    assert cost.matmul_flops == 0
    assert [each.matmul_flops for each in cost.loops] == [512]


def test_the_compilers_own_trip_count_wins():
    text = loop().replace("body=%body\n", 'body=%body, backend_config={"known_trip_count":{"n":"5"},"x":1}\n')
    assert costs.measure(text, devices=4).matmul_flops == 5 * 512


@pytest.mark.parametrize(
    ("written", "axes", "size"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", ("fsdp",), 2),
        ("[2,4]<=[8]", ("data", "fsdp"), 4),
        ("[4,2]<=[2,2,2]T(2,1,0)", ("tensor",), 2),
        ("mesh['a'=2,'b'=2,'c'=2] {'b'}", ("data",), 2),
        ("mesh['a'=2,'b'=4] {'b':(2)2}", ("fsdp",), 2),
        ("mesh['a'=2,'b'=2,'c'=2], device_ids=([2,2,2]T(2,1,0)) {'a'}", ("fsdp",), 2),
        ("{}", ("tensor", "data", "fsdp"), 8),
    ],
)
def test_groups_of_devices_and_their_axes(written, axes, size):
    text = f"  ROOT %r = f32[16]{{0}} all-reduce(%x), channel_id=1, replica_groups={written}, to_apply=%sum"
    instruction = next(
        iter(
            hlo.parse("ENTRY %main (x: f32[16]) -> f32[16] {\n" + text + "\n}\n")
            .computations["main"]
            .instructions.values()
        )
    )
    found = collectives.read(instruction, 64, devices=8)
    assert found.size == size
    assert found.axes({"tensor": 2, "data": 2, "fsdp": 2}) == axes
    assert found.sent == pytest.approx(2 * 64 * (size - 1) / size)


ASYNCHRONOUS = """HloModule spread

%start (p: bf16[8,4]) -> (bf16[8,4], bf16[16,4]) {
  %p = bf16[8,4]{1,0:S(1)} parameter(0)
  %g = bf16[16,4]{1,0} all-gather(%p), channel_id=7, SPREAD
  ROOT %t = (bf16[8,4]{1,0}, bf16[16,4]{1,0}) tuple(%p, %g)
}

%done (p: bf16[8,4]) -> bf16[16,4] {
  %p = bf16[8,4]{1,0:S(1)} parameter(0)
  ROOT %g = bf16[16,4]{1,0} all-gather(%p), channel_id=7, SPREAD
}

%all-reduce-scatter.1 (p: f32[16,4]) -> f32[8,4] {
  %p = f32[16,4]{1,0} parameter(0)
  %r = f32[16,4]{1,0} all-reduce(%p), channel_id=9, replica_groups={{0,1},{2,3}}, to_apply=%sum
  %zero = s32[] constant(0)
  ROOT %s = f32[8,4]{1,0} dynamic-slice(%r, %zero, %zero), dynamic_slice_sizes={8,4}
}

ENTRY %main (x: bf16[8,4], y: f32[16,4]) -> bf16[16,4] {
  %x = bf16[8,4]{1,0:S(1)} parameter(0)
  %y = f32[16,4]{1,0} parameter(1)
  %b = (bf16[8,4]{1,0}, bf16[16,4]{1,0}) fusion(%x), kind=kCustom, calls=%start
  %e = bf16[16,4]{1,0} fusion(%x), kind=kCustom, calls=%done
  %a = (bf16[8,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%x), channel_id=8, replica_groups={{0,2},{1,3}}
  %f = bf16[16,4]{1,0} all-gather-done(%a)
  %fusion.all-reduce-scatter = f32[8,4]{1,0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %o = bf16[16,4]{1,0} add(%e, %f)
}
""".replace("SPREAD", 'replica_groups=[2,2]<=[4], dimensions={0}, frontend_attributes={chain_id="3"}')


def test_an_asynchronous_exchange_counts_once():
    cost = costs.measure(ASYNCHRONOUS, devices=4)
    found = {(each.kind, each.bytes, each.group): count for each, count in cost.collectives.items()}
    gathered = 16 * 4 * 2
    assert found == {
        ("all-gather", gathered, (0, 1)): 1,
        ("all-gather", gathered, (0, 2)): 1,
        ("reduce-scatter", 16 * 4 * 4, (0, 1)): 1,
    }
    assert {each.axes({"data": 2, "fsdp": 2}) for each in cost.collectives} == {("data",), ("fsdp",)}


def test_memory_on_the_chip_is_no_hbm_traffic():
    text = """ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %s = (f32[8]{0:T(8)S(1)}, f32[8]{0:T(8)}, u32[]{:S(2)}) copy-start(%x)
  %d = f32[8]{0:T(8)S(1)} copy-done(%s)
  ROOT %y = f32[8]{0:T(8)S(1)} multiply(%d, %d)
}
"""
    cost = costs.measure(text)
    assert cost.hbm_bytes == 32  # the prefetch reads it once
    assert cost.bytes_accessed == 2 * 32 + 3 * 32
    assert cost.flops == 8


def test_what_the_host_keeps_is_counted_apart_slice_by_slice():
    kept, slice_ = "bf16[2,16]{1,0:T(8)S(5)}", "bf16[1,16]{1,0:T(8)}"
    text = f"""ENTRY %main (x: bf16[1,16], i: s32[]) -> bf16[1,16] {{
  %x = {slice_} parameter(0)
  %i = s32[] parameter(1)
  %h = {kept} custom-call(), custom_call_target="AllocateBuffer"
  %u = (({kept}, {slice_}, s32[], s32[]), {kept}, u32[]{{:S(2)}}) dynamic-update-slice-start(%h, %x, %i, %i)
  %k = {kept} dynamic-update-slice-done(%u)
  %s = (({kept}, s32[], s32[]), {slice_}, u32[]{{:S(2)}}) dynamic-slice-start(%k, %i, %i)
  ROOT %d = {slice_} dynamic-slice-done(%s)
}}
"""
    cost = costs.measure(text)
    assert cost.host_bytes == cost.hbm_bytes == 2 * 32  # out and back
    assert cost.bytes_accessed == 4 * 32


def test_a_batched_product_in_windows_counts_its_real_positions():
    # A TPU program writes 32 products [16, 64] x [64, 24] so: of 32 x 32 positions 32 are real.
    text = """ENTRY %main (x: bf16[32,16,64], w: bf16[32,64,24]) -> bf16[32,16,24] {
  %x = bf16[32,16,64]{2,1,0} parameter(0)
  %w = bf16[32,64,24]{2,1,0} parameter(1)
  ROOT %y = bf16[32,16,24]{2,1,0} convolution(%x, %w), WINDOW, dim_labels=0bf_0io->0bf
}
""".replace("WINDOW", "window={size=32 stride=31 lhs_dilate=32}")
    assert costs.measure(text).matmul_flops == 2 * 32 * 16 * 64 * 24


def stack(x, weights, *, unroll):
    def layer(x, w):
        return jax.nn.gelu(x @ w), None

    return jax.lax.scan(layer, x, weights, unroll=unroll)[0].sum()


def test_a_scanned_stack_costs_what_the_unrolled_one_does():
    x, weights = jnp.ones((16, 32)), jnp.ones((6, 32, 32))
    gradient = {
        unroll: jax.jit(jax.grad(functools.partial(stack, unroll=unroll), argnums=(0, 1)))
        for unroll in (1, 6)
    }
    compiled = {unroll: function.lower(x, weights).compile() for unroll, function in gradient.items()}
    scanned, unrolled = (costs.measure(compiled[unroll].as_text()) for unroll in (1, 6))
    assert scanned.matmul_flops == unrolled.matmul_flops == 3 * 6 * 2 * 16 * 32 * 32
    assert scanned.flops == pytest.approx(compiled[6].cost_analysis()["flops"], rel=0.02)
    once = costs.measure(compiled[1].as_text(), count_loops=False)
    assert once.flops == pytest.approx(compiled[1].cost_analysis()["flops"], rel=0.02)
    assert once.flops < scanned.flops / 4


def test_a_kernel_whose_metadata_runs_over_lines_counts_what_it_declares():
    text = """ENTRY %main (x: bf16[8,4]) -> bf16[8,4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %k = bf16[8,4]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={kernel={
"block": 128
}}, backend_config={"custom_call_config":{"cost_estimate":{"flops":"640","transcendentals":"8"}}}
  ROOT %y = bf16[8,4]{1,0} add(%k, %x)
}
"""
    cost = costs.measure(text)
    assert cost.matmul_flops == 640
    assert cost.flops == 640 + 32


def test_an_attention_kernel_counts_its_products():
    text = """ENTRY %main (q: bf16[2,4,128,64], k: bf16[2,4,512,64]) -> bf16[2,4,128,64] {
  %q = bf16[2,4,128,64]{3,2,1,0} parameter(0)
  %k = bf16[2,4,512,64]{3,2,1,0} parameter(1)
  %blocks = s8[1,1,1]{2,1,0} constant({...})
  ROOT %splash_mha_fwd_segmented.1 = bf16[2,4,128,64]{3,2,1,0} custom-call(%blocks, %q, %k, %k)
}
"""
    assert costs.measure(text).matmul_flops == 2 * 2 * 2 * 4 * 128 * 512 * 64


def test_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.parse("HloModule empty\n")
