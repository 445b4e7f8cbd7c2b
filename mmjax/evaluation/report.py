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

    metrics: the content of metrics.json. pictures: u8[N, H, W, 3], the real ones, in the order of `embedded`.
    pictures of `described` and `drawn` are looked up by their record numbers. training_count: pictures trained on.
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
    """The page."""
    sections = (_head, _stages, _retrieval, _captions, _generation, _figures, _foot)
    page = string.Template(importlib.resources.files(__package__).joinpath("report.html").read_text("utf-8"))
    body = "\n".join(section(report) for section in sections)
    return page.substitute(title="mmjax quickstart: what was trained and how well it works", body=body)


def sample(count: int, wanted: int) -> np.ndarray:
    """`wanted` of `count` numbers (or all of them), at random but always the same, ascending."""
    return np.sort(np.random.default_rng(0).permutation(count)[:wanted])


def _head(report: Report) -> str:
    clip, caption, drawn = (report.metrics[name] for name in ("clip", "caption", "generation"))
    held_out = int(clip["held_out"])
    numbers = (
        (
            _percent(clip["image_to_text_recall_at_1"]),
            f"of pictures find their own caption first among {held_out}; chance {_percent(clip['chance_at_1'])}",
        ),
        (
            f"{caption['word_f1']:.2f}",
            f"word F1 of captions; with shuffled pictures {caption['shuffled_word_f1']:.2f}",
        ),
        (
            _percent(drawn["recall_at_5"]),
            f"of drawn pictures are recognised in five guesses among {int(drawn['count'])}; "
            f"real ones {_percent(drawn['real_recall_at_5'])}, chance {_percent(drawn['chance_at_5'])}",
        ),
        (_minutes(report.metrics["seconds"]["total"]), "from nothing to this page, on this machine"),
    )
    tiles = "".join(f'<div class="number"><b>{value}</b><span>{text}</span></div>' for value, text in numbers)
    return (
        "<h1>Pictures to words, words to pictures</h1>"
        f'<p class="lead">A contrastive encoder, a captioning language model and a diffusion decoder, trained '
        f"from random weights on {report.training_count:,} drawings with their names, and tested on {held_out} "
        "drawings they never saw: combinations of a person or gesture and a skin tone, each half of which "
        f'occurs in training, but never together.</p><div class="numbers">{tiles}</div>'
    )


def _stages(report: Report) -> str:
    rows = "".join(
        f"<tr><td><b>{stage.title}</b><br><span class='small'>{stage.purpose}</span></td>"
        f"<td class='n'>{_millions(stage.parameters)}</td><td class='n'>{_millions(stage.trained)}</td>"
        f"<td class='n'>{stage.steps:,}</td><td class='n'>{stage.batch_size}</td>"
        f"<td class='n'>{stage.seconds:,.0f} s</td></tr>"
        for stage in report.stages
    )
    panels = "".join(
        f'<div class="panel"><h3>{stage.title}</h3><span class="small">loss, by training step; last value '
        f"{stage.curve[-1][1]:.3f}</span>{curve(stage.curve, label='Loss of ' + stage.title, floor=0)}</div>"
        for stage in report.stages
        if stage.curve
    )
    seconds = report.metrics["seconds"]
    return (
        "<h2>What was trained</h2><div class='scroll'><table><thead><tr><th>Stage</th><th class='n'>Parameters"
        "</th><th class='n'>of these trained</th><th class='n'>Steps</th><th class='n'>Batch</th>"
        f"<th class='n'>Time</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p class='note' style='margin-top:10px'>Rendering the drawings took {seconds['data']:,.0f} s, all "
        f"evaluations {seconds['evaluation']:,.0f} s.</p><div class='panels'>{panels}</div>"
    )


def _retrieval(report: Report) -> str:
    embedded = report.embedded
    similarity = embedded.image @ embedded.text.T
    cards = "".join(_ranked_captions(report, similarity[n], n) for n in sample(len(similarity), 9))
    strips = "".join(_ranked_pictures(report, similarity[:, n], n) for n in sample(len(similarity), 6)[::-1])
    return (
        "<h2>Retrieval: which words belong to this picture?</h2><p>The encoder has never seen these pictures. "
        f"It ranks all {len(similarity)} captions by similarity; the first {_TOP} are shown, the right one "
        f"marked. Examples here and below are drawn at random, not picked.</p><div class='cards'>{cards}</div>"
        f"<p style='margin-top:26px'>And the other way round: a caption, and the {_TOP} most similar pictures."
        f"</p>{strips}"
    )


def _ranked_captions(report: Report, similarity: np.ndarray, number: int) -> str:
    captions = report.embedded.captions
    right = captions[number]
    items = "".join(
        f"<li{' class=hit' if captions[n] == right else ''}>{_text(captions[n])}</li>"
        for n in np.argsort(-similarity)[:_TOP]
    )
    return (
        f'<div class="card">{_picture(report.pictures[number], right)}'
        f'<div><ol class="ranks">{items}</ol></div></div>'
    )


def _ranked_pictures(report: Report, similarity: np.ndarray, number: int) -> str:
    captions = report.embedded.captions
    pictures = "".join(
        _picture(report.pictures[n], captions[n], "hit" if captions[n] == captions[number] else "")
        for n in np.argsort(-similarity)[:_TOP]
    )
    return f'<div class="strip"><p>{_text(captions[number])}</p><div class="row">{pictures}</div></div>'


def _captions(report: Report) -> str:
    described, place = report.described, _places(report)
    cards = []
    for n in sample(len(described.said), 12):
        said, reference = described.said[n], described.references[n]
        same = words(said) == words(reference)
        verdict = (
            "<span class='good'>✓ the same words</span>"
            if same
            else f"<span class='bad'>✗</span> <span class='small'>a person wrote: {_text(reference)}</span>"
        )
        picture = _picture(report.pictures[place[described.index[n]]], reference)
        cards.append(f'<div class="card">{picture}<div>{_text(said) or "(nothing)"}<br>{verdict}</div></div>')
    figures = report.metrics["caption"]
    return (
        "<h2>Captions: what does the model say?</h2><p>The language model looks at the picture through gated "
        f"cross-attention and writes. {_percent(figures['exact_match'])} of its captions equal the reference "
        f"word for word. Leaving aside the words that every reference contains, word F1 is "
        f"{figures['content_word_f1']:.2f}, against {figures['shuffled_content_word_f1']:.2f} when the "
        f"pictures are shuffled.</p><div class='cards'>{''.join(cards)}</div>"
    )


def _generation(report: Report) -> str:
    drawn, judged = report.drawn, report.judged
    ranks = _ranks(judged.drawn @ judged.text.T, judged.captions)
    pairs = []
    for n in sample(len(ranks), 12):
        seen = "good" if ranks[n] <= _TOP else "bad"
        caption = str(drawn.captions[n])
        pairs.append(
            '<figure class="pair"><div class="row">'
            f"<div><span>drawn</span>{_picture(drawn.drawn[n], 'drawn: ' + caption)}</div>"
            f"<div><span>real</span>{_picture(drawn.real[n], 'real: ' + caption)}</div></div>"
            f"<figcaption><b>{_text(caption)}</b><span class='{seen}'>the judge's guess number {ranks[n]}</span>"
            "</figcaption></figure>"
        )
    figures = report.metrics["generation"]
    return (
        "<h2>Generation: what does it draw?</h2><p>Left, what the diffusion decoder draws for the caption; "
        "right, the real picture, which it never saw. A second encoder, trained from another seed, is the "
        f"judge: it ranks all {int(figures['count'])} captions for every picture. The right caption is among "
        f"its first five for {_percent(figures['recall_at_5'])} of the drawn and "
        f"{_percent(figures['real_recall_at_5'])} of the real pictures; guessing would give "
        f"{_percent(figures['chance_at_5'])}.</p><div class='pairs'>{''.join(pairs)}</div>"
    )


def _figures(report: Report) -> str:
    clip, judge, caption, drawn = (
        report.metrics[name] for name in ("clip", "judge", "caption", "generation")
    )
    recall = lambda name, kind, k: (name, clip[f"{kind}_recall_at_{k}"], clip[f"chance_at_{k}"], "chance")  # noqa: E731
    groups = {
        f"Retrieval among {int(clip['held_out'])} held-out pictures": [
            recall(f"{way}, recall at {k}", kind, k)
            for way, kind in (("picture to text", "image_to_text"), ("text to picture", "text_to_image"))
            for k in (1, 5, 10)
        ]
        + [("the judge, picture to text, recall at 5", judge["image_to_text_recall_at_5"], clip["chance_at_5"], "chance")],
        f"Captions of {int(caption['count'])} held-out pictures": [
            (name, caption[key], caption[f"shuffled_{key}"], "shuffled pictures")
            for name, key in (
                ("exact match", "exact_match"),
                ("word F1", "word_f1"),
                ("word F1 without the words all references share", "content_word_f1"),
            )
        ],
        f"Recognition of {int(drawn['count'])} drawn pictures by the judge": [
            (f"{name}, recall at {k}", drawn[f"{key}_at_{k}"], drawn[f"chance_at_{k}"], "chance")
            for name, key in (("drawn", "recall"), ("real", "real_recall"))
            for k in (1, 5)
        ],
    }  # fmt: skip
    rows = ""
    for group, lines in groups.items():
        rows += f"<tr class='group'><td colspan='3'>{group}</td></tr>"
        rows += "".join(
            f"<tr><td>{name}</td><td class='n'>{value:.3f}</td>"
            f"<td class='n'>{_small(floor)} <span class='small'>{kind}</span></td></tr>"
            for name, value, floor, kind in lines
        )
    return (
        "<h2>All figures</h2><div class='scroll'><table><thead><tr><th></th><th class='n'>This run</th>"
        f"<th class='n'>Without looking</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _foot(report: Report) -> str:
    return (
        f"<footer class='small'><p><b>Drawings.</b> {_text(report.attribution)}. Licence of the drawings shown "
        f"here, and of the drawn ones derived from them: {_text(report.licence)}.</p>"
        f"<p><b>Made by</b> <code>{_text(report.command)}</code> with {_text(report.versions)}. The figures are "
        "in <code>metrics.json</code> beside this page.</p></footer>"
    )


def _ranks(similarity: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """i64[N]: place of the best right caption of each row, 1 for the first."""
    right = captions[:, None] == captions[None]
    best = np.max(similarity, axis=1, where=right, initial=-np.inf, keepdims=True)
    return 1 + ((similarity > best) & ~right).sum(axis=1)


def _places(report: Report) -> dict[int, int]:
    """Record number -> place in `report.pictures`."""
    return {int(number): place for place, number in enumerate(report.embedded.index)}


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


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"
