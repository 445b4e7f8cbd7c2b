"""Metric formulas on inputs that the published tables state."""

import numpy as np

from mmjax.evaluation import amber, clipscore, image_quality, pope, vqa
from mmjax.evaluation import chair as hallucination


def pope_metrics(*counts: int) -> tuple[float, ...]:
    """(accuracy, precision, recall, F1, share of yes) of (TP, FP, TN, FN)."""
    return tuple(float(value) for value in pope.metrics(np.array(counts)).values())


def pope_answer(said: str) -> str:
    """'yes' or 'no', as the answer is parsed."""
    return pope.parse(said)


def pope_question(thing: str) -> str:
    """The question about an object."""
    return pope.question(thing)


def vqa_accuracies(matches: tuple[int, ...]) -> tuple[float, ...]:
    """VQA accuracy of an answer that so many of ten people gave."""
    return tuple(vqa.accuracy("yes", ["yes"] * count + ["no"] * (10 - count)) for count in matches)


def amber_score(chair: float, f1: float) -> float:
    """AMBER's score from CHAIR and F1, in percent."""
    return amber.amber_score(chair, f1)


def chair(mentions: tuple[tuple[str, ...], ...], objects: tuple[tuple[str, ...], ...]) -> tuple[float, float]:
    """(CHAIRi, CHAIRs) of the objects that captions mention, beside those of their pictures."""
    figures = hallucination.score(mentions, [set(held) for held in objects])
    return figures["chair_i"], figures["chair_s"]


def frechet_of_scale(size: int, factor: float) -> float:
    """The Frechet distance of N(0, I) and N(0, factor I) in so many dimensions."""
    zeros, eye = np.zeros(size), np.eye(size)
    return image_quality.frechet_distance(zeros, eye, zeros, factor * eye)


def frechet_of_shift(size: int, shift: float) -> float:
    """The Frechet distance of N(0, I) and N(shift, I) in so many dimensions."""
    zeros, eye = np.zeros(size), np.eye(size)
    return image_quality.frechet_distance(zeros, eye, zeros + shift, eye)


def cmmd(angle: float) -> float:
    """CMMD of two sets of one unit vector each, so many degrees apart."""
    turned = np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))]])
    return image_quality.cmmd(np.array([[1.0, 0.0]]), turned)


def clip_score(cosine: float) -> float:
    """CLIPScore of a caption with this cosine to its picture."""
    return float(clipscore.clip_scores(*_apart(cosine))[0])


def ref_clip_score(cosine: float, reference: float) -> float:
    """RefCLIPScore of a caption with these cosines to its picture and to its closest reference."""
    picture, caption = _apart(cosine)
    turned = np.array([caption[0, 0], caption[0, 1]])
    across = np.array([-turned[1], turned[0]])
    closest = reference * turned + np.sqrt(1 - reference**2) * across
    return float(clipscore.ref_clip_scores(picture, caption, [closest[None]])[0])


def _apart(cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors float[1, 2] with this cosine."""
    return np.array([[1.0, 0.0]]), np.array([[cosine, np.sqrt(1 - cosine**2)]])
