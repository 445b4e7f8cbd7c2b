"""Figures that need public weights or data.

Files are named as `mmjax.reproduce.files` finds them: weights by their repository on the Hugging Face Hub,
data by the path below --data. Where a row has no function yet, `lacks` says what is missing besides files.
"""

from mmjax.reproduce.row import Row, within

_MODEL = ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")
_B32 = "openai/clip-vit-base-patch32"
_NOTEBOOK = "data/Prompt_Engineering_for_ImageNet.ipynb"
_IMAGENET, _IMAGENET_V2 = "data/imagenet/val", "data/imagenetv2-matched-frequency-format-val"
_COCO = ("data/coco/dataset_coco.json", "data/coco/images")
_NO_TORCHSCRIPT = (
    "reader of TorchScript archives (weights are read from safetensors only), and residual towers have no "
    "safetensors layout of their own release"
)
_NO_PICKLE = "reader of pickled checkpoints (weights are read from safetensors only)"
_NO_INCEPTION = "Inception network for the features of FID and IS"
_NO_SHOTS = (
    "beam search, with which the published answers were written (few-shot prompts it has: their answers are "
    "greedy)"
)


def _weights(repository: str) -> tuple[str, ...]:
    return tuple(f"weights/{repository}/{file}" for file in _MODEL)


_CLIP = (
    Row(
        id="clip/ViT-B-32/demo",
        what="probabilities of 'a diagram', 'a dog', 'a cat' for CLIP.png",
        source="openai/CLIP:README.md",
        expected=(0.9927937, 0.00421068, 0.00299572),
        tolerance=within(2e-3),
        compute="weights.probabilities",
        of=(_B32, "data/CLIP.png", ("a diagram", "a dog", "a cat")),
        needs=(*_weights(_B32), "data/CLIP.png"),
    ),
    Row(
        id="clip/ViT-B-32/imagenet-v2",
        what="zero-shot accuracy on ImageNet-V2, top 1 and top 5, 80 prompts, percent",
        source="openai/CLIP:notebooks/Prompt_Engineering_for_ImageNet.ipynb",
        expected=(55.93, 83.36),
        tolerance=within(0.15),
        compute="weights.accuracy",
        of=(_B32, _IMAGENET_V2, _NOTEBOOK, (1, 5)),
        needs=(*_weights(_B32), _IMAGENET_V2, _NOTEBOOK),
    ),
    *(
        Row(
            id=f"clip/{size.replace('/', '-')}/imagenet",
            what="zero-shot accuracy on ImageNet, 80 prompts, percent",
            source="open_clip:docs/openclip_results.csv (OpenAI's weights)",
            expected=(expected,),
            tolerance=within(0.1),
            compute="weights.accuracy",
            of=(repository, _IMAGENET, _NOTEBOOK, (1,)),
            needs=(*_weights(repository), _IMAGENET, _NOTEBOOK),
        )
        for size, repository, expected in (
            ("ViT-B/32", _B32, 63.32),
            ("ViT-B/16", "openai/clip-vit-base-patch16", 68.34),
            ("ViT-L/14", "openai/clip-vit-large-patch14", 75.54),
            ("ViT-L/14@336", "openai/clip-vit-large-patch14-336", 76.56),
        )
    ),
    *(
        Row(
            id=f"clip/{size}/imagenet",
            what="zero-shot accuracy on ImageNet, 80 prompts, percent",
            source="open_clip:docs/openclip_results.csv (OpenAI's weights)",
            expected=(expected,),
            tolerance=within(0.1),
            needs=(f"weights/openai/CLIP/{size}.pt", _IMAGENET, _NOTEBOOK),
            lacks=_NO_TORCHSCRIPT,
        )
        for size, expected in (
            ("RN50", 59.82),
            ("RN101", 62.28),
            ("RN50x4", 66.27),
            ("RN50x16", 70.72),
            ("RN50x64", 73.91),
        )
    ),
)

_SIGLIP = (
    *(
        Row(
            id=f"{family}/{size}/imagenet",
            what="zero-shot accuracy on ImageNet, 80 prompts, percent",
            source=source,
            expected=(expected,),
            tolerance=within(0.2),
            compute="weights.accuracy",
            of=(repository, _IMAGENET, _NOTEBOOK, (1,)),
            needs=(*_weights(repository), _IMAGENET, _NOTEBOOK),
        )
        for family, size, repository, source, expected in (
            ("siglip", "B-16-256", "google/siglip-base-patch16-256", "Zhai et al. 2023, table 3", 76.7),
            (
                "siglip",
                "So400m-14-384",
                "google/siglip-so400m-patch14-384",
                "Zhai et al. 2023, table 3",
                83.2,
            ),
            (
                "siglip2",
                "B-16-224",
                "google/siglip2-base-patch16-224",
                "big_vision:configs/proj/image_text/README_siglip2.md",
                78.2,
            ),
            (
                "siglip2",
                "g-opt-16-384",
                "google/siglip2-giant-opt-patch16-384",
                "big_vision:configs/proj/image_text/README_siglip2.md",
                85.0,
            ),
        )
    ),
    Row(
        id="siglip2/B-16-256/coco",
        what="COCO retrieval, recall at 1, text to picture and picture to text, percent",
        source="big_vision:configs/proj/image_text/README_siglip2.md",
        expected=(53.2, 69.7),
        tolerance=within(0.3),
        compute="weights.retrieval",
        of=("google/siglip2-base-patch16-256", *_COCO),
        needs=(*_weights("google/siglip2-base-patch16-256"), *_COCO),
    ),
)

_EXAMPLE = "data/clipscore/example"
_CLIPSCORE = tuple(
    Row(
        id=f"metrics/clipscore/example/{name}",
        what=f"CLIPScore and RefCLIPScore of the {name} captions of its example",
        source="jmhessel/clipscore:README.md",
        expected=expected,
        tolerance=within(1e-3),
        compute="weights.clip_scores",
        of=(_B32, _EXAMPLE, f"{name}_captions.json"),
        needs=(
            *_weights(_B32),
            f"{_EXAMPLE}/images",
            f"{_EXAMPLE}/refs.json",
            f"{_EXAMPLE}/{name}_captions.json",
        ),
    )
    for name, expected in (("good", (0.8584, 0.8450)), ("bad", (0.7153, 0.7253)))
)

_CIDER = tuple(
    Row(
        id=f"metrics/cider-d/{name}",
        what=f"CIDEr-D of the two {name} captions of CLIPScore's example, and their mean",
        source="jmhessel/clipscore:example, scored by coco-caption",
        expected=expected,
        tolerance=within(1e-6),
        compute="annotations.cider_d",
        of=(files := (f"{_EXAMPLE}/{name}_captions.json", f"{_EXAMPLE}/refs.json")),
        needs=files,
    )
    for name, expected in (
        ("good", (0.5070732, 0.6204093, 0.5637413)),
        ("bad", (0.0, 0.5580331, 0.2790165)),
    )
)

_AMBER = "data/AMBER/data/annotations.json"
_ANNOTATIONS = (
    *(
        Row(
            id=f"metrics/pope/questions/{strategy}",
            what="questions, of them yes, no; pictures",
            source="Li et al. 2023, section 4.2; AoiDragon/POPE:output/coco",
            expected=(3000, 1500, 1500, 500),
            compute="annotations.pope_questions",
            of=(f"data/POPE/output/coco/coco_pope_{strategy}.json",),
            needs=(f"data/POPE/output/coco/coco_pope_{strategy}.json",),
        )
        for strategy in ("random", "popular", "adversarial")
    ),
    Row(
        id="metrics/amber/annotations",
        what="queries, generative, discriminative; existence, state, number, action, relation",
        source="Wang et al. 2023, table 2; junyangwang0410/AMBER:data/annotations.json",
        expected=(15_220, 1004, 14_216, 4924, 4764, 2072, 792, 1664),
        compute="annotations.amber_queries",
        of=(_AMBER,),
        needs=(_AMBER,),
    ),
    *(
        Row(
            id=f"metrics/amber/answers/{kind}",
            what=f"questions about {kind} whose answer is yes, and no",
            source="junyangwang0410/AMBER:data/annotations.json",
            expected=expected,
            compute="annotations.amber_answers",
            of=(_AMBER, kind),
            needs=(_AMBER,),
        )
        for kind, expected in (("existence", (0, 4924)), ("relation", (975, 689)))
    ),
)

_UNREAD = (
    *(
        Row(
            id=f"dit/XL-2-{side}/{name.lower()}",
            what=f"{name} of 50,000 pictures of {side} pixels with guidance 1.5",
            source="facebookresearch/DiT:README.md",
            expected=expected,
            tolerance=within(tolerance),
            needs=(
                f"weights/facebook/DiT-XL-2-{side}/transformer/diffusion_pytorch_model.safetensors",
                "weights/stabilityai/sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
                f"data/VIRTUAL_imagenet{side}_labeled.npz",
            ),
            lacks=_NO_INCEPTION,
        )
        for side, name, expected, tolerance in (
            (256, "FID", 2.27, 0.1),
            (256, "IS", 278.24, 5),
            (512, "FID", 3.04, 0.1),
            (512, "IS", 240.82, 5),
        )
    ),
    *(
        Row(
            id=f"dit/{size}/trained",
            what="FID of 50,000 pictures after 400,000 steps from scratch, without guidance",
            source="facebookresearch/DiT:README.md",
            expected=expected,
            tolerance=within(1.0),
            needs=(
                "data/imagenet/train",
                "weights/stabilityai/sd-vae-ft-ema/diffusion_pytorch_model.safetensors",
                "data/VIRTUAL_imagenet256_labeled.npz",
            ),
            lacks=_NO_INCEPTION,
        )
        for size, expected in (("B-4", 68.4), ("XL-2", 19.5))
    ),
    *(
        Row(
            id=f"autoencoder/KL-f8/reconstruction/{name.lower()}",
            what=f"{name} of reconstructed ImageNet pictures",
            source="CompVis/latent-diffusion:README.md",
            expected=expected,
            tolerance=within(tolerance),
            needs=("weights/CompVis/latent-diffusion/kl-f8.zip", _IMAGENET),
            lacks=lacks,
        )
        for name, expected, tolerance, lacks in (
            ("FID", 0.90, 0.05, f"{_NO_PICKLE}, nor an {_NO_INCEPTION}"),
            ("PSNR", 24.19, 0.2, _NO_PICKLE),
        )
    ),
    *(
        Row(
            id=f"flamingo/{name}/4-shot",
            what=f"{what} with four shots",
            source=source,
            expected=expected,
            tolerance=within(1.0),
            needs=(*(f"weights/{file}" for file in weights), "data/coco", "data/vqav2"),
            lacks=_NO_SHOTS,
        )
        for name, what, source, expected, weights in (
            (
                "open-3B",
                "CIDEr on COCO and accuracy on VQAv2",
                "open_flamingo:README.md",
                (77.3, 45.8),
                ("openflamingo/OpenFlamingo-3B-vitl-mpt1b/checkpoint.pt", "openai/CLIP/ViT-L-14.pt"),
            ),
            (
                "open-9B",
                "CIDEr on COCO and accuracy on VQAv2",
                "open_flamingo:README.md",
                (89.0, 54.8),
                ("openflamingo/OpenFlamingo-9B-vitl-mpt7b/checkpoint.pt", "openai/CLIP/ViT-L-14.pt"),
            ),
            (
                "idefics-9B",
                "CIDEr on COCO and accuracy on VQAv2",
                "model card of HuggingFaceM4/idefics-9b",
                (93.0, 55.4),
                ("HuggingFaceM4/idefics-9b/model.safetensors.index.json",),
            ),
        )
    ),
)

ROWS = (*_CLIP, *_SIGLIP, *_CLIPSCORE, *_CIDER, *_ANNOTATIONS, *_UNREAD)
