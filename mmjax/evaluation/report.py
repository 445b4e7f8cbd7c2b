"""One self-contained HTML page that tells a stranger what was trained, on what, and how well it works.

Examples are drawn at random with a fixed seed, never picked. Axes: N records of the evaluated split.
"""

import base64
import dataclasses
import html
import importlib.resources
import io
import string
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from mmjax.evaluation.captions import Described, words
from mmjax.evaluation.charts import curve
from mmjax.evaluation.generation import Drawn, Judged
from mmjax.evaluation.retrieval import Embedded

_TOP = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training run: what it is, its size and how it went; `curve` holds (step, loss) points."""

    title: str
    purpose: str
    parameters: int
    trained: int
    steps: int
    batch_size: int
    seconds: float
    curve: Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the page shows.

    metrics: the content of metrics.json. training_count: pictures trained on. pictures: u8[N, H, W, 3], the
    real ones in the order of `embedded`; those of `described` are found by their record numbers.
    """

    metrics: Mapping[str, Mapping[str, float]]
    stages: Sequence[Stage]
    training_count: int
    pictures: np.ndarray
    embedded: Embedded
    described: Described
    drawn: Drawn
    judged: Judged
    attribution: str
    licence: str
    command: str
    versions: str


def render(report: Report) -> str:
    """The page: `report.html` holds its words, what follows here its numbers, examples and curves."""
    page = string.Template(importlib.resources.files(__package__).joinpath("report.html").read_text("utf-8"))
    parts = (_numbers, _stages, _retrieval, _captions, _generation, _figures)
    return page.substitute({name: text for part in parts for name, text in part(report).items()})


def sample(count: int, wanted: int) -> np.ndarray:
    """`wanted` of `count` numbers (or all of them), at random but always the same, ascending."""
    return np.sort(np.random.default_rng(0).permutation(count)[:wanted])


def _numbers(report: Report) -> dict[str, str]:
    clip, caption, drawn, seconds = (
        report.metrics[name] for name in ("clip", "caption", "generation", "seconds")
    )
    return {
        "training_count": f"{report.training_count:,}",
        "held_out": f"{clip['held_out']:.0f}",
        "retrieval_headline": _percent(clip["image_to_text_recall_at_1"]),
        "retrieval_chance": _percent(clip["chance_at_1"]),
        "caption_headline": f"{caption['word_f1']:.2f}",
        "caption_shuffled": f"{caption['shuffled_word_f1']:.2f}",
        "caption_exact": _percent(caption["exact_match"]),
        "caption_content": f"{caption['content_word_f1']:.2f}",
        "caption_content_shuffled": f"{caption['shuffled_content_word_f1']:.2f}",
        "drawn_count": f"{drawn['count']:.0f}",
        "drawn_headline": _percent(drawn["recall_at_5"]),
        "drawn_real": _percent(drawn["real_recall_at_5"]),
        "drawn_chance": _percent(drawn["chance_at_5"]),
        "total": _duration(seconds["total"]),
        "data_seconds": f"{seconds['data']:,.0f}",
        "evaluation_seconds": f"{seconds['evaluation']:,.0f}",
        "attribution": _text(report.attribution),
        "licence": _text(report.licence),
        "command": _text(report.command),
        "versions": _text(report.versions),
    }


def _stages(report: Report) -> dict[str, str]:
    rows = "".join(
        f"<tr><td><b>{stage.title}</b><br><span class='small'>{stage.purpose}</span></td>"
        f"<td class='n'>{_millions(stage.parameters)}</td><td class='n'>{_millions(stage.trained)}</td>"
        f"<td class='n'>{stage.steps:,}</td><td class='n'>{stage.batch_size}</td>"
        f"<td class='n'>{_duration(stage.seconds)}</td></tr>"
        for stage in report.stages
    )
    panels = "".join(
        f'<div class="panel"><h3>{stage.title}</h3><span class="small">loss, by training step; last value '
        f"{stage.curve[-1][1]:.3f}</span>{curve(stage.curve, label='Loss of ' + stage.title)}</div>"
        for stage in report.stages
        if stage.curve
    )
    return {"stages": rows, "curves": panels}


def _retrieval(report: Report) -> dict[str, str]:
    similarity = report.embedded.image @ report.embedded.text.T
    numbers = sample(len(similarity), 15)
    return {
        "ranked_captions": "".join(_ranked_captions(report, similarity[n], n) for n in numbers[:9]),
        "ranked_pictures": "".join(_ranked_pictures(report, similarity[:, n], n) for n in numbers[9:]),
    }


def _ranked_captions(report: Report, similarity: np.ndarray, number: int) -> str:
    captions = report.embedded.captions
    items = "".join(
        f"<li{' class=hit' if captions[n] == captions[number] else ''}>{_text(captions[n])}</li>"
        for n in np.argsort(-similarity)[:_TOP]
    )
    picture = _picture(report.pictures[number], captions[number])
    return f'<div class="card">{picture}<div><ol class="ranks">{items}</ol></div></div>'


def _ranked_pictures(report: Report, similarity: np.ndarray, number: int) -> str:
    captions = report.embedded.captions
    pictures = "".join(
        _picture(report.pictures[n], captions[n], "hit" if captions[n] == captions[number] else "")
        for n in np.argsort(-similarity)[:_TOP]
    )
    return f'<div class="strip"><p>{_text(captions[number])}</p><div class="row">{pictures}</div></div>'


def _captions(report: Report) -> dict[str, str]:
    place = {int(number): place for place, number in enumerate(report.embedded.index)}
    described = report.described
    return {
        "captions": "".join(
            _caption_card(
                report.pictures[place[int(described.index[n])]], described.said[n], described.references[n]
            )
            for n in sample(len(described.said), 12)
        )
    }


def _caption_card(pixels: np.ndarray, said: str, reference: str) -> str:
    if words(said) == words(reference):
        verdict = "<span class='good small'>✓ the same words</span>"
    else:
        verdict = f"<span class='bad'>✗</span> <span class='small'>a person wrote: {_text(reference)}</span>"
    spoken = _text(said) or "<i>nothing</i>"
    return f'<div class="card">{_picture(pixels, reference)}<div>{spoken}<br>{verdict}</div></div>'


def _generation(report: Report) -> dict[str, str]:
    drawn, judged = report.drawn, report.judged
    ranks = _ranks(judged.drawn @ judged.text.T, judged.captions)
    return {
        "pairs": "".join(
            _pair(drawn.drawn[n], drawn.real[n], str(drawn.captions[n]), ranks[n])
            for n in sample(len(ranks), 16)
        )
    }


def _pair(drawn: np.ndarray, real: np.ndarray, caption: str, rank: int) -> str:
    verdict = "✓ the judge's first guess" if rank == 1 else f"the judge's guess number {rank}"
    return (
        '<figure class="pair"><div class="row">'
        f"<div><span>drawn</span>{_picture(drawn, 'drawn: ' + caption)}</div>"
        f"<div><span>real</span>{_picture(real, 'real: ' + caption)}</div></div>"
        f"<figcaption><b>{_text(caption)}</b>"
        f"<span class='{'good' if rank <= _TOP else 'bad'}'>{verdict}</span></figcaption></figure>"
    )


def _figures(report: Report) -> dict[str, str]:
    clip, judge, caption, drawn = (
        report.metrics[name] for name in ("clip", "judge", "caption", "generation")
    )
    retrieval = [
        (f"{who}{way}, recall at {k}", figures[f"{kind}_recall_at_{k}"], figures[f"chance_at_{k}"])
        for who, figures, cutoffs in (("", clip, (1, 5, 10)), ("the judge, ", judge, (1, 5)))
        for way, kind in (("picture to text", "image_to_text"), ("text to picture", "text_to_image"))
        for k in cutoffs
    ]
    names = {
        "exact match": "exact_match",
        "word F1": "word_f1",
        "word F1 without the words all references share": "content_word_f1",
    }
    captions = [(name, caption[key], caption[f"shuffled_{key}"]) for name, key in names.items()]
    generation = [
        (f"{name} pictures, recall at {k}", drawn[f"{key}_at_{k}"], drawn[f"chance_at_{k}"])
        for name, key in (("drawn", "recall"), ("real", "real_recall"))
        for k in (1, 5)
    ]
    return {
        "figures": _group(f"Retrieval among {clip['held_out']:.0f} held-out pictures", retrieval, "chance")
        + _group(f"Captions of {caption['count']:.0f} held-out pictures", captions, "shuffled")
        + _group(f"Judge's recognition among {drawn['count']:.0f} captions", generation, "chance")
    }


def _group(title: str, lines: Sequence[tuple[str, float, float]], without: str) -> str:
    """Table rows: a heading, then (name, value, value without looking) each."""
    rows = "".join(
        f"<tr><td>{name}</td><td class='n'>{value:.3f}</td>"
        f"<td class='n'><span class='small'>{without}</span> {_small(floor)}</td></tr>"
        for name, value, floor in lines
    )
    return f"<tr class='group'><td colspan='3'>{title}</td></tr>{rows}"


def _ranks(similarity: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """i64[N]: place of the best right caption of each row, 1 for the first."""
    right = captions[:, None] == captions[None]
    best = np.max(similarity, axis=1, where=right, initial=-np.inf, keepdims=True)
    return 1 + ((similarity > best) & ~right).sum(axis=1)


def _picture(pixels: np.ndarray, alternative: str, css: str = "") -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    css = f' class="{css}"' if css else ""
    return f'<img{css} alt="{_text(alternative)}" src="data:image/png;base64,{data}">'


def _text(text: str) -> str:
    return html.escape(str(text))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 or share == 0 else f"{100 * share:.2g}%"


def _small(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.4f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.0f} s"
