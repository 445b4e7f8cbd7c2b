"""The program: help, dispatch, exit codes, `parameters` and `train`."""

import ctypes
import json
import os
import subprocess
import sys

import jax
import pytest

from mmjax import config as configs
from mmjax.cli import main as cli
from mmjax.cli import parameters, train
from mmjax.training import checkpoints, metrics


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A program cache of these tests' own, and the process as it was before."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def mmjax(*arguments, capsys):
    """(exit code, stdout, stderr) of a command run in this process."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_help_names_every_command_and_every_command_explains_itself(capsys):
    code, out, _ = mmjax("--help", capsys=capsys)
    assert code == 0
    for command in cli.COMMANDS:
        assert command in out
        code, text, _ = mmjax(command, "--help", capsys=capsys)
        assert code == 0
        assert f"mmjax {command}" in text
        assert "--" in text


def test_a_user_error_is_one_line_and_code_2(capsys):
    code, out, err = mmjax("trian", capsys=capsys)
    assert (code, out) == (2, "")
    assert err == f"mmjax: unknown command 'trian'; the commands are {', '.join(cli.COMMANDS)}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["parameters"], "give --config"),
        (["train", "--config", "clip:tiny"], "give --workdir"),
        (["train", "--wrkdir=x"], "wrkdir"),
        (["train", "--config", "clip:tiny", "--workdir=gs://bucket/x"], "mount the bucket on every host"),
        (["train", "--config", "clip:tiny", "--workdir=x", "--profile=20"], "not of the form START:COUNT"),
        (["train", "--config", "clip:tiny", "--workdir=x", "--distributed"], "give --coordinator=HOST:PORT"),
        (["train", "--config", "clip:tiny", "--workdir=x", "--max-restarts=-1"], "max-restarts"),
        (["parameters", "--config", "clip:tiny", "--config.model.embeding=4"], "did you mean embedding?"),
        (["parameters", "--config.model.embedding=4"], "needs --config first"),
        (["parameters", "--config", "clip:tiny", "stray"], "unexpected argument 'stray'"),
        (["parameters", "--config", "clip:tiny", "--depth=0"], "depth"),
        (["parameters", "--system", "clp", "--size", "ViT-B/32"], "did you mean clip?"),
        (["parameters", "--system", "clip", "--size", "ViT-B/3"], "did you mean ViT-B/32?"),
        (["parameters", "--system", "clip"], "give --size"),
        (["evaluate", "--checkpoint", "no/such/run"], "there is no checkpoint in"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, capsys):
    code, _, err = mmjax(*arguments, capsys=capsys)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(capsys):
    with pytest.raises(cli.UserError):
        cli.main(["trian", "--debug"])


def test_python_m_mmjax_is_the_program():
    done = subprocess.run([sys.executable, "-m", "mmjax", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("mmjax: unknown command 'nonsense'")


def test_overrides_may_stand_anywhere_and_be_written_with_a_space():
    values, positional = cli.parse(
        ["--config.training.steps", "7", "--config", "clip:tiny", "--config.training.seed=5"],
        lambda values: None,
    )
    assert (values.config.training.steps, values.config.training.seed, positional) == (7, 5, [])


def test_the_program_cache_is_the_users_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cli.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mmjax" / "compiled")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    cli.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mmjax" / "compiled")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_memory_that_is_freed_is_not_asked_for_again():
    code = """
import glob, resource
from mmjax.cli import main
glob.glob = lambda pattern: []  # no accelerator
main.keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (1 << 27)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(after - before)
"""
    environment = os.environ | {"GLIBC_TUNABLES": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert int(done.stdout) < 100, done.stderr  # of 32,768 pages


TOY = """
from ml_collections import ConfigDict

def get_config(arg=None):
    return ConfigDict(dict(system="toy.Toy", data=dict(source="x"), training=dict(steps=1, batch_size=1)))
"""


def test_parameters_counts_by_module(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "training"))
    path = tmp_path / "toy_config.py"
    path.write_text(TOY)
    code, out, _ = mmjax("parameters", "--config", str(path), "--json", "--depth=1", capsys=capsys)
    counts = json.loads(out)
    assert code == 0
    assert counts["modules"]["up"] == {"parameters": 544, "bytes": 2176, "trainable": 544, "frozen": 0}
    assert counts["modules"]["frozen"]["trainable"] == 0
    assert counts["modules"]["embedding"] == {"parameters": 128, "bytes": 512, "trainable": 48, "frozen": 80}
    assert counts["total"] == sum(row["parameters"] for row in counts["modules"].values())
    assert counts["total"] == sum(counts["parts"].values()) and counts["parts"]["up"] == 544
    table = parameters.table(counts).splitlines()
    assert table[0].split() == ["module", "parameters", "MiB", "trainable", "frozen"]
    assert table[-1].split()[:2] == ["total", f"{counts['total']:,}"]


def test_parameters_of_a_model_beyond_this_machine_takes_no_memory():
    config = configs.override(
        configs.load("clip:tiny"),
        ["--config.model.text.vocabulary_size=100_000_000", "--config.model.embedding=8192"],
    )
    assert parameters.count(configs.system(config))["total"] > 3 * 10**9


def test_parameters_of_a_published_size(capsys):
    code, out, _ = mmjax("parameters", "--system=clip", "--size=ViT-B/32", "--json", capsys=capsys)
    assert code == 0
    counts = json.loads(out)
    assert counts["total"] == 151_277_313
    assert counts["parts"] == {"visual": 87_849_216, "text": 63_428_096, "logit_scale": 1}


def test_train_resumes_from_its_checkpoint_with_its_tokenizer(tiny_world, tmp_path):
    config = configs.load("clip:tiny")
    config.data.source, config.data.image_size = str(tiny_world), 32
    config.training.steps, config.training.log_every = 4, 1
    first = train.run(config, tmp_path)
    assert first.step == 4
    assert first.tokenizer.vocabulary_size <= config.data.vocabulary_size
    config.training.steps = 6
    config.data.vocabulary_size = 300  # would give other ids, if the tokenizer were trained again
    second = train.run(config, tmp_path)
    assert second.step == 6
    assert second.tokenizer.to_json() == first.tokenizer.to_json()
    assert [line["step"] for line in metrics.read(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    stored = checkpoints.load_run(tmp_path)
    assert stored["config"]["training"]["steps"] == 6
    assert stored["image_spec"]["size"] == 32
    assert set(stored["versions"]) == set(train.PACKAGES)
    # Another run that starts from this one speaks its language.
    config.training.initialize = (f"vision={tmp_path}:vision",)
    config.training.steps = 1
    third = train.run(config, tmp_path / "third")
    assert third.tokenizer.to_json() == first.tokenizer.to_json()


def test_a_tokenizer_larger_than_the_model_knows_is_an_error(tiny_world, tmp_path):
    config = configs.load("clip:tiny")
    config.data.source, config.model.text.vocabulary_size = str(tiny_world), 280
    with pytest.raises(
        cli.UserError, match=r"model\.text\.vocabulary_size=280 is smaller than the tokenizer's"
    ):
        train.run(config, tmp_path)
