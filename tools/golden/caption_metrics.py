"""Records coco-caption's words and scores: `python -m tools.golden.caption_metrics`, from the root.

Needs `pip install --no-deps pycocoevalcap` and a Java runtime, for Stanford's tokenizer, which comes with it.
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "tests" / "evaluation" / "golden" / "coco_caption.json"

# What was said of a picture, and what people wrote: plain, and with all that a tokenizer can stumble over.
CAPTIONS = [
    ("a man riding a wave on a surfboard", ["a surfer rides a wave.", "A man is surfing on a big wave"]),
    (
        "A man riding a horse.",
        ["a man riding a horse down a street", "the man's horse doesn't move, it rests"],
    ),
    ("two dogs two dogs two dogs", ["Two dogs (one black, one white)", "two dogs", "the dogs' toys"]),
    ("a red car", ['a "classic" car, parked by St. Mary\'s church', "an old red car at 3:30 p.m."]),
    ("", ["nothing to see here", "an empty, white room"]),
    ("a plate with 1,000 fries", ["a plate of fries for $3.50", "it's a plate - fries & ketchup - for two"]),
    ("a dog", ["a very long caption of a small brown dog that can't or won't chase a t-shirt at all"]),
    (
        "the U.S. flag is seen here",
        ["they've raised the U.S. flag...", "we cannot see the flag; it's folded"],
    ),
    (
        "a man is gonna eat",
        [
            "\u2018it\u2019s here\u2019 \u2013 he said \u201cwanna eat?\u201d",
            "Mr. O'Brien eats at 5 o'clock: noodles",
        ],
    ),
    ("a black-and-white photo of a clock", ["a black and white photo of a clock", "no. 5: clock/tower!"]),
]


def java(texts: Sequence[str]) -> list[list[str]]:
    """The words of coco-caption's PTBTokenizer."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("\n".join(texts))
        file.flush()
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        lines = subprocess.run(
            [*command, "-preserveLines", "-lowerCase", file.name], capture_output=True, check=True
        )
    rows = lines.stdout.decode().split("\n")[: len(texts)]
    return [[w for w in row.split() if w not in ptbtokenizer.PUNCTUATIONS] for row in rows]


def scores(said: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> dict[str, Any]:
    """coco-caption's figures of captions that are lists of words already; `each` holds those per caption."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truth = {n: [" ".join(one) for one in several] for n, several in enumerate(references)}
    result = {n: [" ".join(one)] for n, one in enumerate(said)}
    cider, each_cider = Cider().compute_score(truth, result)
    rouge, each_rouge = Rouge().compute_score(truth, result)
    bleu, _ = Bleu(4).compute_score(truth, result, verbose=0)
    return {
        "cider": float(cider),
        "rouge_l": float(rouge),
        **{f"bleu_{n}": float(value) for n, value in enumerate(bleu, 1)},
        "each": {"cider": list(map(float, each_cider)), "rouge_l": list(map(float, each_rouge))},
    }


def main() -> None:
    said = java([one for one, _ in CAPTIONS])
    references = [java(several) for _, several in CAPTIONS]
    content = {
        "said": [one for one, _ in CAPTIONS],
        "references": [several for _, several in CAPTIONS],
        "words": {
            "said": [" ".join(one) for one in said],
            "references": [[" ".join(one) for one in several] for several in references],
        },
        "scores": scores(said, references),
    }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{FILE.stat().st_size / 1000:.1f} kB  {FILE.name}")


if __name__ == "__main__":
    main()
