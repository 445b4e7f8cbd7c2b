"""Configs: loading, overriding, typed building, and the sentence for every mistake."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from ml_collections import ConfigDict

from mmjax import config as configs
from mmjax.diffusion.process import FlowMatching
from mmjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tower:
    width: int
    depth: int = 2
    scale: float = 1.0

    def __post_init__(self):
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    vision: Tower
    text: Tower | None = None
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (0, "a")
    kind: Literal["softmax", "sigmoid"] = "softmax"
    flag: bool = False
    name: str | None = None
    head: Any = None
    activation: Callable[..., Any] | None = None


def double(x, *, factor=2):
    return x * factor


def build(**mapping):
    return configs.build(Model, {"vision": {"width": 4}, **mapping})


def test_build_nests_and_coerces():
    model = build(text={"width": 2, "scale": 3}, sizes=[3, 4], pair=[1, "b"], kind="sigmoid", name="x")
    assert model.vision == Tower(width=4)
    assert model.text == Tower(width=2, scale=3.0)
    assert type(model.text.scale) is float
    assert (model.sizes, model.pair, model.kind, model.name) == ((3, 4), (1, "b"), "sigmoid", "x")


def test_build_calls_dotted_paths():
    here = f"{__name__}."
    model = build(
        head={"call": here + "Tower", "width": 6}, activation={"call": here + "double", "factor": 5}
    )
    assert model.head == Tower(width=6)
    assert model.activation(2) == 10


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"vision": {"widht": 4}}, r"unknown key model\.vision\.widht; did you mean width\?"),
        ({"visoin": {}}, r"unknown key model\.visoin; did you mean vision\?"),
        ({"vision": {}}, r"missing key model\.vision\.width; set it to a value of type int"),
        ({"vision": {"width": "wide"}}, r"model\.vision\.width must be of type int, not 'wide'"),
        ({"vision": {"width": True}}, r"model\.vision\.width must be of type int, not True"),
        ({"vision": {"width": 3}}, r"model\.vision: width 3 is odd"),
        ({"vision": 4}, r"model\.vision must be of type Tower, not 4"),
        ({"text": {"width": 2, "deep": 1}}, r"unknown key model\.text\.deep; did you mean depth\?"),
        ({"sizes": [1, "x"]}, r"model\.sizes\[1\] must be of type int, not 'x'"),
        ({"pair": [1]}, r"model\.pair needs 2 values, not 1"),
        ({"kind": "sigmiod"}, r"unknown value model\.kind=sigmiod; did you mean sigmoid\?"),
        (
            {"head": {"call": "no.such.Thing"}},
            r"model\.head\.call = 'no\.such\.Thing': there is no module 'no\.such'",
        ),
        ({"head": {"call": "mmjax.errors.UserErorr"}}, r"unknown name UserErorr; did you mean UserError\?"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_full_key(mapping, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        configs.build(Model, {"vision": {"width": 4}} | mapping)
    assert "\n" not in str(told.value)


FILE = """
from ml_collections import ConfigDict

def get_config(arg=None):
    if arg not in (None, "tiny"):
        raise ValueError("known variants: tiny")
    return ConfigDict(dict(
        system="toy.Toy",
        model=dict(width=8 if arg else 16),
        data=dict(source="somewhere"),
        training=dict(steps=3, batch_size=4),
    ))
"""


@pytest.fixture
def location(tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(FILE)
    return str(path)


def test_load_fills_in_every_default(location):
    config = configs.load(location + ":tiny")
    assert config.model.to_dict() == {"width": 8, "classes": 8, "noise": 0.0, "explode_at": 1e9}
    assert config.training.keep == 2
    assert config.optimizer.schedule == "cosine"
    assert config.sharding.rules == "replicated"
    assert config.data.augment is not None
    assert configs.load(location).model.width == 16


def test_overrides_reach_defaults_too(location):
    config = configs.load(location)
    arguments = [
        "--config.training.steps=7",
        "--config.optimizer.learning_rate=1",
        "--config.data.augment=None",
    ]
    arguments += ["--config.training.initialize=a=runs/x:b", "--config.sharding.overrides={'embed': 'fsdp'}"]
    changed = configs.override(config, arguments)
    built = configs.experiment(changed)
    assert built.training.steps == 7
    assert built.optimizer.learning_rate == 1.0
    assert built.data.augment is None
    assert built.training.initialize == ("a=runs/x:b",)
    assert built.sharding.overrides == {"embed": "fsdp"}
    assert config.training.steps == 3  # the original is left alone


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--config.training.stpes=4", r"unknown key config\.training\.stpes; did you mean steps\?"),
        ("--config.trainin.steps=4", r"unknown key config\.trainin; did you mean training\?"),
        ("--config.training.steps=many", r"config\.training\.steps=many"),
        ("--config.model.width.more=1", r"unknown key config\.model\.width\.more"),
    ],
)
def test_overrides_that_do_not_fit(location, argument, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        configs.override(configs.load(location), [argument])
    assert "\n" not in str(told.value)


def test_an_experiment_survives_json(location):
    config = configs.override(configs.load(location), ["--config.training.initialize=a=b"])
    stored = json.loads(json.dumps(configs.to_json(config)))
    assert configs.experiment(configs.from_json(stored)) == configs.experiment(config)


def test_the_wrong_place_or_variant_is_told(location, tmp_path):
    with pytest.raises(UserError, match=r"there is no file"):
        configs.load(str(tmp_path / "absent.py"))
    with pytest.raises(UserError, match=r"rejects the variant 'huge'.*known variants: tiny"):
        configs.load(location + ":huge")
    with pytest.raises(UserError, match=r"--config clop: .* not one of the shipped .*'clip'"):
        configs.load("clop")


def test_unknown_sections_and_systems_are_told(location):
    config = configs.load(location)
    with pytest.raises(UserError, match="unknown key trainign; did you mean training"):
        configs.experiment(ConfigDict(config.to_dict() | {"trainign": {}}))
    with pytest.raises(UserError, match="unknown name CLOP; did you mean CLIP"):
        configs.complete({"system": "mmjax.systems.clip.CLOP"})
    with pytest.raises(UserError, match="needs a key `system`"):
        configs.complete({})


def test_shipped_configs_build():
    for name in configs.shipped():
        configs.experiment(configs.load(f"{name}:tiny"))


def test_a_default_whose_type_is_not_the_annotated_one_is_spelled_out():
    config = configs.load("decoder:tiny").to_dict()
    del config["model"]["process"]  # annotated with the base class, so its defaults alone would not tell
    completed = configs.complete(config)
    assert completed.model.process.call == "mmjax.diffusion.process.FlowMatching"
    assert configs.experiment(completed).system.process == FlowMatching()
