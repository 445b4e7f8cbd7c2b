"""Objectives where their value is known in closed form."""

from mmjax.reproduce.row import Row, relative, within

_CLIP = "Radford et al. 2021, figure 3, in closed form"

_CONTRASTIVE = (
    Row(
        id="losses/clip/undecided/512",
        what="CLIP's loss of 512 pairs with equal similarities, ln N",
        source=_CLIP,
        expected=6.2383246250395075,
        tolerance=within(1e-12),
        compute="losses.clip_undecided",
        of=(512, "float64"),
    ),
    Row(
        id="losses/clip/undecided/32768",
        what="CLIP's loss of 32,768 pairs (the published batch) with equal similarities, ln N, in float32",
        source=_CLIP,
        expected=10.397207708399179,
        tolerance=relative(2e-6),
        compute="losses.clip_undecided",
        of=(32_768, "float32"),
    ),
    Row(
        id="losses/clip/perfect",
        what="CLIP's loss of opposite pairs that match exactly, at the largest scale",
        source=_CLIP,
        expected=0.0,
        tolerance=within(1e-12),
        compute="losses.clip_perfect",
    ),
    *(
        Row(
            id=f"losses/{name}/chunked",
            what=f"{paper}: difference of a chunked loss and its gradients from the whole matrix, relative",
            source=source,
            expected=0.0,
            tolerance=within(5e-6),
            compute="losses.chunked_difference",
            of=(objective,),
        )
        for name, paper, objective, source in (
            ("clip", "CLIP", "softmax", "identity; Radford et al. 2021, section 2.5 (sharded similarities)"),
            ("siglip", "SigLIP", "sigmoid", "identity; Zhai et al. 2023, section 3.3"),
        )
    ),
)

_LN2 = 0.69314718056
_PREFERENCE = (
    Row(
        id="losses/dpo/at-reference",
        what="DPO where the policy is the reference, ln 2",
        source="Rafailov et al. 2023, equation 7",
        expected=_LN2,
        tolerance=within(1e-11),
        compute="losses.at_reference",
        of=("dpo", ("beta", 0.1)),
    ),
    Row(
        id="losses/cdpo/at-reference",
        what="DPO with 10% flipped labels where the policy is the reference, ln 2",
        source="eric-mitchell/direct-preference-optimization:trainers.py",
        expected=_LN2,
        tolerance=within(1e-11),
        compute="losses.at_reference",
        of=("dpo", ("beta", 0.1), ("smoothing", 0.1)),
    ),
    Row(
        id="losses/ddpo/at-reference",
        what="RLHF-V's dense DPO (beta 0.5) where the policy is the reference, ln 2",
        source="Yu et al. 2024, section 3.3",
        expected=_LN2,
        tolerance=within(1e-11),
        compute="losses.at_reference",
        of=("dpo", ("beta", 0.5)),
    ),
    Row(
        id="losses/ipo/at-reference",
        what="IPO (beta 0.1) where the policy is the reference, 1 / (2 beta)^2",
        source="eric-mitchell/direct-preference-optimization:trainers.py",
        expected=25.0,
        tolerance=within(1e-11),
        compute="losses.at_reference",
        of=("ipo", ("beta", 0.1)),
    ),
    Row(
        id="losses/hinge/at-reference",
        what="SLiC's hinge where the policy is the reference",
        source="Zhao et al. 2023; princeton-nlp/SimPO:scripts/simpo_trainer.py",
        expected=1.0,
        tolerance=within(1e-12),
        compute="losses.at_reference",
        of=("hinge", ("beta", 0.1)),
    ),
    *(
        Row(
            id=f"losses/simpo/{model}",
            what=f"SimPO at equal averages, beta {beta}, gamma / beta {ratio}",
            source="princeton-nlp/SimPO:README.md (settings); softplus(gamma)",
            expected=expected,
            tolerance=within(1e-6),
            compute="losses.simpo_at_equal_averages",
            of=(beta, ratio),
        )
        for model, beta, ratio, expected in (
            ("Mistral-Base", 2.0, 0.8, 1.783901),
            ("Mistral-Instruct", 2.5, 0.1, 0.825939),
            ("Llama3-Base", 2.0, 0.5, 1.313262),
            ("Llama3-Instruct", 2.5, 0.55, 1.600413),
            ("Llama3-Instruct-v0.2", 10.0, 0.3, 3.048587),
            ("Gemma", 10.0, 0.5, 5.006715),
        )
    ),
    Row(
        id="losses/ddpo/normaliser",
        what="RLHF-V divides 7 kept and 3 corrected tokens by 7 + 5 * 3",
        source="Yu et al. 2024, equation 3 (gamma 5)",
        expected=22.0,
        tolerance=within(1e-12),
        compute="losses.corrected_weight",
        of=(7, 3, 5.0),
    ),
    Row(
        id="losses/ddpo/unweighted",
        what="RLHF-V's score with gamma 1, difference from the average log-probability",
        source="identity; Yu et al. 2024, equation 3",
        expected=0.0,
        tolerance=within(1e-12),
        compute="losses.unweighted_score_difference",
    ),
)

ROWS = (*_CONTRASTIVE, *_PREFERENCE)
