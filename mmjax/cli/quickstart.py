"""usage: mmjax quickstart --workdir DIR [--tiny]

Builds a small world of real drawings, trains everything on it, and writes DIR/report.html, a page that shows
what was trained and how well it works on pictures it never saw, and DIR/metrics.json, its figures.

    drawings -> CLIP -> Flamingo on its frozen encoder -> diffusion decoder joined to both
             -> a second CLIP, the judge of what is drawn

  --workdir  receives the world, one directory per trained system, the report and the figures
  --tiny     tiny models, a couple of minutes: shows that everything works, not how well

Killed or interrupted, the same command goes on where it stopped.
"""

import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from mmjax import config as configs
from mmjax.cli import parameters, train
from mmjax.cli.evaluate import refuse, table, write_json
from mmjax.cli.main import keep_freed_memory, parse, require
from mmjax.data.pipeline import Pipeline
from mmjax.data.worlds import openmoji
from mmjax.errors import UserError
from mmjax.evaluation.captions import Captions
from mmjax.evaluation.generation import Generation
from mmjax.evaluation.grid import beside, save
from mmjax.evaluation.passes import over
from mmjax.evaluation.report import Report, Stage, render
from mmjax.evaluation.retrieval import Retrieval
from mmjax.training import metrics as logs
from mmjax.training.checkpoints import Trained

PROGRESS = "quickstart.json"
TINY_WORLD = 400  # pictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: its shipped config, the share of that config's steps to train for, and the earlier
    runs its parameters start from."""

    name: str
    title: str
    purpose: str
    config: str
    seed: int = 0
    share: float = 1.0
    initialize: tuple[str, ...] = ()


RUNS = (
    Run(
        name="clip",
        title="CLIP",
        purpose="pictures and their names, put in one space by contrast",
        config="clip",
    ),
    Run(
        name="judge",
        title="The judge",
        purpose="another CLIP, of another seed and data order, that only scores drawn pictures",
        config="clip",
        seed=1,
        share=0.4,  # it only has to tell pictures apart well enough to score them
    ),
    Run(
        name="flamingo",
        title="Flamingo",
        purpose="a language model that looks at pictures through the frozen encoder of CLIP",
        config="flamingo",
        initialize=("vision={workdir}/clip:vision",),
    ),
    Run(
        name="decoder",
        title="Diffusion decoder",
        purpose="a diffusion transformer that draws from CLIP's embedding and the language model's states",
        config="generator",
        initialize=("flamingo={workdir}/flamingo", "decoder/clip={workdir}/clip"),
    ),
)


def main(arguments: list[str]) -> None:
    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("workdir", None, "where everything goes", flag_values=values)
        flags.DEFINE_boolean("tiny", False, "tiny models", flag_values=values)

    values, positional = parse(arguments, define)
    refuse(positional)
    require(values, "workdir")
    keep_freed_memory()
    workdir = Path(values.workdir).absolute()
    figures = run(workdir, variant="tiny" if values.tiny else "quickstart")
    print(table({name: part for name, part in figures.items() if name != "seconds"}))
    print(f"\n{figures['seconds']['total'] / 60:.1f} minutes; see {workdir / 'report.html'}")


def run(workdir: Path, *, variant: str = "quickstart") -> dict[str, dict[str, float]]:
    """Everything; returns what metrics.json holds."""
    progress = Progress.open(workdir, variant)
    plans = {one.name: plan(one, workdir, variant) for one in RUNS}
    world = workdir / "world"
    with progress.timed("data"):
        size = plans["clip"].data.image_size
        limit = TINY_WORLD if variant == "tiny" else None
        built = openmoji.build(world, size=size, limit=limit, progress=lambda d: tqdm(d, "drawings"))
    trained = {}
    for number, one in enumerate(RUNS, start=1):
        print(f"[{number}/{len(RUNS)}] {one.title}: {one.purpose}", flush=True)
        directory = workdir / one.name
        if progress.is_done(one.name):
            trained[one.name] = Trained.load(directory)
            continue
        with progress.timed(one.name):
            trained[one.name] = train.run(plans[one.name], directory)
    print("Evaluating on the held-out pictures", flush=True)
    with progress.timed("evaluation", once=False):
        figures, shown = evaluate(trained)
    figures["seconds"] = progress.seconds | {"total": sum(progress.seconds.values())}
    report = Report(
        metrics=figures,
        stages=[stage(one, plans[one.name], workdir, progress.seconds) for one in RUNS],
        training_count=built.manifest["splits"]["train"]["count"],
        attribution=built.manifest["attribution"],
        licence=built.manifest["licence"],
        command="mmjax quickstart" + (" --tiny" if variant == "tiny" else ""),
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mmjax", "jax", "flax")),
        **shown,
    )
    (workdir / "report.html").write_text(render(report), encoding="utf-8")
    save(beside(shown["drawn"].real[:32], shown["drawn"].drawn[:32]), workdir / "drawings.png")
    write_json(workdir / "metrics.json", figures)
    return figures


def plan(one: Run, workdir: Path, variant: str) -> Any:
    """The config of a run."""
    config = configs.load(f"{one.config}:{variant}")
    config.data.source = str(workdir / "world")
    config.training.seed = one.seed
    config.training.steps = round(config.training.steps * one.share)
    config.training.initialize = tuple(line.format(workdir=workdir) for line in one.initialize)
    return config


def evaluate(trained: dict[str, Trained]) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """The figures of every system on the held-out split, and the outputs behind them for the report."""
    key = jax.random.key(0)
    retrieval = _evaluator(trained["clip"], Retrieval)
    captions = _evaluator(trained["flamingo"], Captions)
    generation = dataclasses.replace(_evaluator(trained["decoder"], Generation), judge=trained["judge"])

    embedded, judges_own = (_apply(retrieval.embed, trained[name]) for name in ("clip", "judge"))
    described = _apply(captions.describe, trained["flamingo"])
    pipeline = held_out(trained["decoder"])
    generation.check_judge(trained["decoder"].params, pipeline)
    drawn = _apply(lambda *args: generation.draw(*args, key=key), trained["decoder"])
    judged = generation.ask(drawn)
    _, pictures = over(
        held_out(trained["clip"]), lambda _, batch: batch["image"][:, 0], {}, batch_size=64, names=("image",)
    )
    figures = {
        "clip": _held_out_first(retrieval.score(embedded)),
        "judge": _held_out_first(retrieval.score(judges_own)),
        "caption": captions.score(described, key=key),
        "generation": generation.score(judged),
    }
    outputs = {"embedded": embedded, "described": described, "drawn": drawn, "judged": judged}
    return figures, {**outputs, "pictures": np.asarray(pictures)}


def held_out(trained: Trained) -> Pipeline:
    """The held-out split, laid out for a system."""
    return Pipeline(trained.data_config, trained.tokenizer, split="held_out")


def stage(one: Run, config: Any, workdir: Path, seconds: dict[str, float]) -> Stage:
    """What the report says about a run."""
    size = parameters.count(configs.system(config))
    trainable = sum(row["trainable"] for row in size["modules"].values())
    lines = logs.read(workdir / one.name / "metrics.jsonl")
    return Stage(
        title=one.title,
        purpose=one.purpose,
        parameters=size["total"],
        trained=trainable,
        steps=config.training.steps,
        batch_size=config.training.batch_size,
        seconds=seconds[one.name],
        curve=[(line["step"], line["loss"]) for line in lines if "loss" in line],
    )


@dataclasses.dataclass(kw_only=True)
class Progress:
    """What is done and how long it took, kept in the workdir so that a killed quickstart goes on."""

    path: Path
    variant: str
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    done: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def open(cls, workdir: Path, variant: str) -> "Progress":
        """Raises UserError when the workdir cannot be made or holds a quickstart of another variant."""
        path = workdir / PROGRESS
        try:
            workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--workdir {workdir} cannot be made ({error.strerror}): choose another."
            ) from error
        if not path.exists():
            return cls(path=path, variant=variant)
        stored = cls(path=path, **json.loads(path.read_text(encoding="utf-8")))
        if stored.variant != variant:
            raise UserError(f"{workdir} holds a {stored.variant} run: choose another --workdir for this one.")
        return stored

    def is_done(self, name: str) -> bool:
        return name in self.done

    @contextmanager
    def timed(self, name: str, *, once: bool = True) -> Iterator[None]:
        """Adds the time spent inside to the stage, also when it is interrupted; marks it done at the end.

        once: time spent on a stage that was done before does not count again; otherwise it counts anew.
        """
        start, before = time.monotonic(), self.seconds.get(name, 0.0) if once else 0.0
        counts = not (once and self.is_done(name))
        try:
            yield
            if not self.is_done(name):
                self.done.append(name)
        finally:
            if counts:
                self.seconds[name] = round(before + time.monotonic() - start, 1)
            self._save()

    def _save(self) -> None:
        content = {"variant": self.variant, "seconds": self.seconds, "done": self.done}
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(content), encoding="utf-8")
        os.replace(draft, self.path)


def _evaluator(trained: Trained, kind: type) -> Any:
    """The config's evaluator of that kind, or one with the default settings."""
    found = configs.experiment(trained.config).evaluators.values()
    return next((evaluator for evaluator in found if isinstance(evaluator, kind)), None) or kind()


def _apply(method: Callable[..., Any], trained: Trained) -> Any:
    return method(trained.system, trained.params, held_out(trained))


def _held_out_first(figures: dict[str, float]) -> dict[str, float]:
    """`count` under the name the report's readers know."""
    return {"held_out": figures["count"], **{k: v for k, v in figures.items() if k != "count"}}
