"""Attention masks as the papers state them, as truth tables: a row per query, '1' where it may look."""

from mmjax.reproduce.row import Row

_FLAMINGO = "Alayrac et al. 2022, section 3.1.3 and figure 7: a text token sees the latest picture only"

ROWS = (
    Row(
        id="masks/flamingo/one-picture-each",
        what="text, picture, text, picture, text: which of both pictures each token reads",
        source=_FLAMINGO,
        expected=("00", "10", "10", "01", "01"),
        compute="masks.latest_media",
        of=("tItIt",),
    ),
    Row(
        id="masks/flamingo/pictures-in-a-row",
        what="two pictures before the text: which each token reads",
        source=_FLAMINGO,
        expected=("10", "01", "01", "01"),
        compute="masks.latest_media",
        of=("IItt",),
    ),
    Row(
        id="masks/flamingo/text-first",
        what="text before the only picture reads nothing",
        source=_FLAMINGO,
        expected=("0", "0", "1"),
        compute="masks.latest_media",
        of=("ttI",),
    ),
    Row(
        id="masks/causal",
        what="four text tokens",
        source="Radford et al. 2019, section 2; Vaswani et al. 2017, section 3.2.3",
        expected=("1000", "1100", "1110", "1111"),
        compute="masks.block_causal",
        of=("tttt",),
    ),
    Row(
        id="masks/transfusion",
        what="text, a picture of three tokens, text: causal, but a picture sees all of itself",
        source="Zhou et al. 2024, figure 4",
        expected=("10000", "11110", "11110", "11110", "11111"),
        compute="masks.block_causal",
        of=("tIiit",),
    ),
    Row(
        id="masks/prefix",
        what="a prefix of two tokens, then two causal ones",
        source="Raffel et al. 2020, figure 4",
        expected=("1100", "1100", "1110", "1111"),
        compute="masks.prefix",
        of=(4, 2),
    ),
)
