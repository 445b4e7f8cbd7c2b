"""From scenes to records: one function per task of `mmjax data build scenes --task`.

Every record carries the truth it came from in its `facts`: {"scene": ...} (`Scene.from_dict`), and what its
task adds. Record `index` of a split depends on (seed, split, index) and the settings alone.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.data.records import IMAGE, AnyRecord, Audio, Conversation, Document, Record, Turn, Video
from mmjax.data.worlds.scenes import clips, conversations, preferences, probes, questions, speech
from mmjax.data.worlds.scenes.captions import caption
from mmjax.data.worlds.scenes.picture import Painter, encode
from mmjax.data.worlds.scenes.questions import Question
from mmjax.data.worlds.scenes.scene import Scene, Scenes

SHOTS = 3  # pictures of a few-shot document


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the records of a world.

    Attributes:
      size: side of the pictures in pixels.
      turns: exchanges of a record of the tasks that have a choice: questions and dialogues.
      count: training scenes that the co-occurrence of the probes is counted over.
      voice: of the spoken captions, see `speech.voice`.
    """

    scenes: Scenes
    size: int = 64
    turns: int = 1
    count: int = 1000
    voice: str = speech.TONES

    @functools.cached_property
    def painter(self) -> Painter:
        return Painter(self.size)

    def record(self, task: str, split: str, index: int) -> AnyRecord:
        """Record number `index` of a split."""
        return TASKS[task](self, split, index)

    def scene(self, split: str, index: int) -> tuple[Scene, Scene, random.Random, str]:
        """A scene, another one of its split, the generator of the record and its id."""
        rng = self.scenes.random(split, index, "text")
        scene, other = (self.scenes.scene(split, number) for number in (index, rng.getrandbits(40)))
        return scene, other, rng, f"{split}-{index}"

    def picture(self, scene: Scene) -> bytes:
        """PNG of a scene."""
        return encode(self.painter.paint(scene))


def _captions(maker: Maker, split: str, index: int) -> Record:
    scene, _, rng, id = maker.scene(split, index)
    return Record(id=id, image=maker.picture(scene), caption=caption(scene, rng), facts=_facts(scene))


def _questions(maker: Maker, split: str, index: int) -> Conversation:
    scene, other, rng, id = maker.scene(split, index)
    asked = questions.ask(scene, other, rng, count=maker.turns)
    return _conversation(maker, id, scene, asked)


def _dialogues(maker: Maker, split: str, index: int) -> Conversation:
    scene, other, rng, id = maker.scene(split, index)
    return _conversation(maker, id, scene, conversations.dialogue(scene, other, rng, turns=maker.turns))


def _boxes(maker: Maker, split: str, index: int) -> Conversation:
    scene, _, rng, id = maker.scene(split, index)
    return _conversation(maker, id, scene, [conversations.boxed(scene, rng)])


def _pope(maker: Maker, split: str, index: int) -> Conversation:
    """Six probes a scene: yes and no by each strategy."""
    number, strategy, answer = index // 6, probes.STRATEGIES[index // 2 % 3], ("yes", "no")[index % 2]
    scene, rng = maker.scenes.scene(split, number), maker.scenes.random(split, index, "probe")
    company = probes.company(maker.scenes, maker.count)
    asked = probes.probe(scene, company, strategy, answer, rng)
    return _conversation(maker, f"{split}-{index}", scene, [asked])


def _preferences(maker: Maker, split: str, index: int) -> Conversation:
    """The chosen text is the answer; the rejected one, and where they differ, are facts."""
    scene, other, rng, id = maker.scene(split, index)
    strangers = {thing.name for thing in other.things} or {kind.name for kind in maker.scenes.kinds}
    pair = preferences.preference(scene, rng, sorted(strangers))
    asked = Question(kind=pair.changed, text="Describe the picture.", answers=(pair.chosen,))
    facts = {
        "rejected": pair.rejected,
        "chosen_span": list(pair.chosen_span),
        "rejected_span": list(pair.rejected_span),
    }
    return _conversation(maker, id, scene, [asked], facts)


def _documents(maker: Maker, split: str, index: int) -> Document:
    """Few shots: pictures each followed by a question of one kind and its answer."""
    rng = maker.scenes.random(split, index, "document")
    kind = rng.choice(sorted(questions.KINDS))
    parts: list[str | bytes] = []
    shown, answers = [], []
    while len(shown) < SHOTS:
        scene, other = (maker.scenes.scene(split, rng.getrandbits(40)) for _ in range(2))
        question = questions.KINDS[kind](scene, other, rng)
        if question is not None:
            parts += [maker.picture(scene), f"Question: {question.text} Answer: {question.answers[0]}"]
            shown.append(scene.to_dict())
            answers.append(list(question.answers))
    return Document(
        id=f"{split}-{index}", parts=tuple(parts), facts={"kind": kind, "scenes": shown, "answers": answers}
    )


def _clips(maker: Maker, split: str, index: int) -> Video:
    scene, _, rng, id = maker.scene(split, index)
    clip = clips.clip(scene, split, rng)
    frames = tuple(encode(frame) for frame in clip.paint(maker.painter))
    return Video(id=id, frames=frames, rate=clips.RATE, caption=clip.caption, facts={"clip": clip.to_dict()})


def _speech(maker: Maker, split: str, index: int) -> Audio:
    scene, _, rng, id = maker.scene(split, index)
    text = caption(scene, rng)
    facts = {**_facts(scene), "voice": maker.voice}
    return Audio(id=id, sound=speech.speak(text, maker.voice), caption=text, facts=facts)


TASKS: Mapping[str, Callable[[Maker, str, int], AnyRecord]] = {
    "captions": _captions, "questions": _questions, "dialogues": _dialogues, "documents": _documents,
    "boxes": _boxes, "pope": _pope, "preferences": _preferences, "clips": _clips, "speech": _speech,
}  # fmt: skip


def _facts(scene: Scene) -> dict[str, Any]:
    return {"scene": scene.to_dict()}


def _conversation(
    maker: Maker,
    id: str,
    scene: Scene,
    asked: Sequence[Question],
    facts: Mapping[str, Any] | None = None,
) -> Conversation:
    """Facts of one exchange: its `kind` and `answers`; of several, these of each, as `questions`."""
    turns = []
    for number, question in enumerate(asked):
        text = question.text if number else f"{IMAGE}{question.text}"
        turns += [Turn("user", text), Turn("assistant", question.answers[0])]
    each = [{"kind": one.kind, "answers": list(one.answers)} for one in asked]
    told = each[0] if len(each) == 1 else {"questions": each}
    return Conversation(
        id=id,
        images=(maker.picture(scene),),
        turns=tuple(turns),
        facts={**_facts(scene), **told, **(facts or {})},
    )
