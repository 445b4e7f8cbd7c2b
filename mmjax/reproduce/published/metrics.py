"""Metric formulas where their value is published or follows in closed form."""

from mmjax.reproduce.row import Row, relative, within

_POPE = (
    *(
        Row(
            id=f"metrics/pope/{name}",
            what=f"accuracy, precision, recall, F1, share of yes from TP, FP, TN, FN of {model}",
            source="Li et al. 2023, table 3",
            expected=expected,
            tolerance=within(1e-7),
            compute="metrics.pope_metrics",
            of=counts,
        )
        for name, model, counts, expected in (
            (
                "instructblip-random",
                "InstructBLIP, random",
                (1409, 247, 1253, 91),
                (0.8873333, 0.8508454, 0.9393333, 0.8929024, 0.552),
            ),
            ("always-yes", "a model that always says yes", (1500, 1500, 0, 0), (0.5, 0.5, 1.0, 2 / 3, 1.0)),
        )
    ),
    *(
        Row(
            id=f"metrics/pope/answer/{name}",
            what=f"how {said!r} is read",
            source="AoiDragon/POPE:evaluate.py",
            expected=expected,
            compute="metrics.pope_answer",
            of=(said,),
        )
        for name, said, expected in (
            ("no", "No, there is no dog in the image.", "no"),
            ("not", "There is not a dog. Yes.", "no"),
            ("Not", "Not that I can see", "yes"),
            ("second-sentence", "It is hard to tell. No.", "yes"),
        )
    ),
    *(
        Row(
            id=f"metrics/pope/question/{thing}",
            what=f"the question about the object {thing!r}",
            source="AoiDragon/POPE:output/coco (the released questions)",
            expected=expected,
            compute="metrics.pope_question",
            of=(thing,),
        )
        for thing, expected in (
            ("snowboard", "Is there a snowboard in the image?"),
            ("umbrella", "Is there an umbrella in the image?"),
        )
    ),
    Row(
        id="metrics/pope/question/template",
        what="the question about the object 'umbrella', as the public generator makes it today",
        source="AoiDragon/POPE:utils.py",
        expected="Is there an umbrella in the imange?",
        compute="metrics.pope_question",
        of=("umbrella",),
        conflict="the generator replaces every 'a' of the template; the released questions read correctly",
    ),
)

_OTHER = (
    Row(
        id="metrics/vqa",
        what="VQA accuracy with 0, 1, 2, 3, 4 and 10 matches among ten people",
        source="Antol et al. 2015, section 3; VQA:vqaEval.py (leave one out)",
        expected=(0.0, 0.3, 0.6, 0.9, 1.0, 1.0),
        tolerance=within(1e-12),
        compute="metrics.vqa_accuracies",
        of=((0, 1, 2, 3, 4, 10),),
    ),
    *(
        Row(
            id=f"metrics/amber/{model}",
            what=f"AMBER score of {model} from CHAIR {chair} and F1 {f1}",
            source="Wang et al. 2023, table of results",
            expected=expected,
            tolerance=within(0.051),
            compute="metrics.amber_score",
            of=(chair, f1),
        )
        for model, chair, f1, expected in (
            ("LLaVA-1.5", 7.8, 74.7, 83.5),
            ("InstructBLIP", 8.8, 81.7, 86.5),
            ("GPT-4V", 4.6, 87.4, 91.4),
        )
    ),
    Row(
        id="metrics/chair",
        what="CHAIRi and CHAIRs of 'dog, cat, dog' and 'dog' about two pictures of dogs",
        source="Rohrbach et al. 2018, section 2.2, by hand: 1 of 4 mentions, 1 of 2 captions",
        expected=(0.25, 0.5),
        tolerance=within(1e-12),
        compute="metrics.chair",
        of=((("dog", "cat", "dog"), ("dog",)), (("dog",), ("dog",))),
    ),
    Row(
        id="metrics/fid/scale",
        what="Frechet distance of N(0, I) and N(0, 4 I) in 2048 dimensions",
        source="Heusel et al. 2017, equation 6, in closed form",
        expected=2048.0,
        tolerance=relative(1e-6),
        compute="metrics.frechet_of_scale",
        of=(2048, 4.0),
    ),
    Row(
        id="metrics/fid/shift",
        what="Frechet distance of N(0, I) and N(0.1, I) in 2048 dimensions",
        source="Heusel et al. 2017, equation 6, in closed form",
        expected=20.48,
        tolerance=relative(1e-6),
        compute="metrics.frechet_of_shift",
        of=(2048, 0.1),
    ),
    *(
        Row(
            id=f"metrics/cmmd/{name}",
            what=f"CMMD of two {name} unit vectors",
            source="google-research:cmmd/distance.py, in closed form",
            expected=expected,
            tolerance=within(1e-6),
            compute="metrics.cmmd",
            of=(degrees,),
        )
        for name, degrees, expected in (
            ("equal", 0.0, 0.0),
            ("orthogonal", 90.0, 19.9003325),
            ("antipodal", 180.0, 39.6026534),
        )
    ),
    *(
        Row(
            id=f"metrics/clipscore/{cosine}",
            what=f"CLIPScore of a caption at cosine {cosine}: 2.5 max(cosine, 0)",
            source="Hessel et al. 2021, equation 1",
            expected=expected,
            tolerance=within(1e-12),
            compute="metrics.clip_score",
            of=(cosine,),
        )
        for cosine, expected in ((0.3, 0.75), (-0.2, 0.0))
    ),
    Row(
        id="metrics/refclipscore",
        what="RefCLIPScore at cosines 0.3 (picture) and 0.75 (closest reference): their harmonic mean",
        source="Hessel et al. 2021, equation 2",
        expected=0.75,
        tolerance=within(1e-12),
        compute="metrics.ref_clip_score",
        of=(0.3, 0.75),
    ),
)

ROWS = (*_POPE, *_OTHER)
