"""Writes five records of each published data set, in the layout and with the fields of its release.

    python tests/data/fixtures.py coco /tmp/coco

The values are made up; what is true to the release are the names of files, folders and fields.
"""

import base64
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from pictures import encoded, noise
from PIL import Image

COUNT = 5


def jpeg(seed: int) -> bytes:
    with Image.open(io.BytesIO(noise(seed))) as image:
        return encoded(image, "JPEG")


def save(root: Path, name: str, value: object) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def lines(root: Path, name: str, values: list) -> Path:
    return save(root, name, "".join(f"{json.dumps(value)}\n" for value in values).encode())


def sentences(number: int, count: int = 2) -> list[str]:
    return [f"picture {number} said {i}" for i in range(count)]


def karpathy(root: Path, file: str, folder: str, name: Callable[[int], str], **fields: object) -> None:
    images = []
    for number, split in enumerate(("train", "restval", "val", "test", "test")):
        texts = sentences(number)
        images.append(
            {
                "sentids": [2 * number, 2 * number + 1],
                "imgid": number,
                "sentences": [
                    {"tokens": text.split(), "raw": text, "imgid": number, "sentid": 2 * number + i}
                    for i, text in enumerate(texts)
                ],
                "split": split,
                "filename": name(number),
                **{key: value(number) if callable(value) else value for key, value in fields.items()},
            }
        )
        save(root, f"{folder}/{name(number)}", jpeg(number))
    save(root, file, {"images": images, "dataset": "made up"})


def coco_name(number: int, part: str = "val2014") -> str:
    return f"COCO_{part}_{number:012d}.jpg"


def coco(root: Path) -> None:
    karpathy(root, "dataset_coco.json", "val2014", coco_name, filepath="val2014", cocoid=lambda n: 100 + n)


def coco_official(root: Path, year: str = "2017") -> None:
    for part, numbers in (("train", range(3)), ("val", range(3, COUNT))):
        images = [
            {"license": 3, "file_name": f"{n:012d}.jpg", "height": 16, "width": 16, "id": n} for n in numbers
        ]
        said = [
            {"image_id": n, "id": 10 * n + i, "caption": text}
            for n in numbers
            for i, text in enumerate(sentences(n))
        ]
        fields = {"info": {}, "images": images, "licenses": [], "annotations": said}
        save(root, f"annotations/captions_{part}{year}.json", fields)
        for n in numbers:
            save(root, f"{part}{year}/{n:012d}.jpg", jpeg(n))


def flickr30k(root: Path) -> None:
    karpathy(root, "dataset_flickr30k.json", "flickr30k-images", lambda n: f"100009{n}.jpg")


def nocaps(root: Path) -> None:
    domains = ("in-domain", "near-domain", "out-domain", "in-domain", "near-domain")
    images = [
        {
            "id": n,
            "file_name": f"00{n}a.jpg",
            "domain": domain,
            "open_images_id": f"00{n}a",
            "coco_url": "http://x",
        }
        for n, domain in enumerate(domains)
    ]
    said = [
        {"image_id": n, "id": 10 * n + i, "caption": text}
        for n in range(COUNT)
        for i, text in enumerate(sentences(n))
    ]
    fields = {"info": {}, "licenses": [], "images": images, "annotations": said}
    save(root, "nocaps_val_4500_captions.json", fields)
    for n in range(COUNT):
        save(root, f"val/00{n}a.jpg", jpeg(n))


def answers(number: int) -> list[dict]:
    said = ["yes"] * 7 + [f"thing {number}"] * 3
    return [{"answer": one, "answer_confidence": "yes", "answer_id": i + 1} for i, one in enumerate(said)]


def vqav2(root: Path) -> None:
    for part, numbers in (("train2014", range(3)), ("val2014", range(3, COUNT))):
        asked = [{"image_id": n, "question": f"Is it {n}?", "question_id": 1000 + n} for n in numbers]
        known = [
            {
                "question_type": "is it",
                "multiple_choice_answer": "yes",
                "answers": answers(n),
                "image_id": n,
                "answer_type": "yes/no",
                "question_id": 1000 + n,
            }
            for n in numbers
        ]
        header = {
            "info": {},
            "task_type": "Open-Ended",
            "data_type": "mscoco",
            "data_subtype": part,
            "license": {},
        }
        save(root, f"v2_OpenEnded_mscoco_{part}_questions.json", {**header, "questions": asked})
        save(root, f"v2_mscoco_{part}_annotations.json", {**header, "annotations": known})
        for n in numbers:
            save(root, f"{part}/{coco_name(n, part)}", jpeg(n))


def gqa(root: Path) -> None:
    for part, numbers in (("train", range(3)), ("testdev", range(3, COUNT))):
        asked = {
            f"0{n}": {
                "semantic": [{"operation": "select", "dependencies": [], "argument": "bowl (1)"}],
                "entailed": [],
                "equivalent": [f"0{n}"],
                "question": f"What is on picture {n}?",
                "imageId": f"23{n}",
                "isBalanced": True,
                "groups": {"global": None, "local": "x"},
                "answer": "bowl",
                "semanticStr": "select: bowl (1)",
                "annotations": {},
                "types": {"detailed": "relO", "semantic": "rel", "structural": "query"},
                "fullAnswer": "It is a bowl.",
            }
            for n in numbers
        }
        save(root, f"questions1.2/{part}_balanced_questions.json", asked)
    for n in range(COUNT):
        save(root, f"images/23{n}.jpg", jpeg(n))


def textvqa(root: Path) -> None:
    for part, numbers in (("train", range(3)), ("val", range(3, COUNT))):
        data = [
            {
                "question": f"What does sign {n} say?",
                "image_id": f"ab{n}",
                "image_classes": ["Sign"],
                "flickr_original_url": "http://x",
                "image_width": 16,
                "image_height": 16,
                "answers": ["stop"] * 6 + ["top"] * 4,
                "question_tokens": ["what"],
                "question_id": 34 + n,
                "set_name": part,
            }
            for n in numbers
        ]
        header = {"dataset_type": part, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
        save(root, f"TextVQA_0.5.1_{part}.json", {**header, "data": data})
        words = [{"image_id": f"ab{n}", "ocr_tokens": ["STOP"], "ocr_info": []} for n in numbers]
        save(root, f"TextVQA_Rosetta_OCR_v0.2_{part}.json", {**header, "data": words})
        for n in numbers:
            save(root, f"train_images/ab{n}.jpg", jpeg(n))


def vizwiz(root: Path) -> None:
    for part, numbers in (("train", range(3)), ("val", range(3, COUNT))):
        data = [
            {
                "image": f"VizWiz_{part}_{n:08d}.jpg",
                "question": f"What is this {n}?",
                "answers": [
                    {"answer_confidence": "yes", "answer": one}
                    for one in ["unanswerable"] * 6 + ["a can"] * 4
                ],
                "answer_type": "unanswerable",
                "answerable": 0,
            }
            for n in numbers
        ]
        save(root, f"Annotations/{part}.json", data)
        for n in numbers:
            save(root, f"{part}/VizWiz_{part}_{n:08d}.jpg", jpeg(n))


def llava(root: Path) -> None:
    entries = []
    for n in range(COUNT - 1):
        asked = "What is it?\n<image>" if n % 2 else "<image>\nWhat is it?"
        said = [
            {"from": "human", "value": asked if n else "What is it?"},
            {"from": "gpt", "value": f"It is thing {n}."},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "It looks so."},
        ]
        entries.append({"id": f"{n:012d}", "image": f"coco/train2017/{n:012d}.jpg", "conversations": said})
        save(root, f"coco/train2017/{n:012d}.jpg", jpeg(n))
    said = [{"from": "human", "value": "How are you?"}, {"from": "gpt", "value": "Well."}]
    entries.append({"id": "wgByO4Y_0", "model": "", "conversations": said})
    save(root, "llava_v1_5_mix665k.json", entries)


def lrv(root: Path) -> None:
    tasks = ("negative", "object detection", "negative", "image captioning", "scene text recognition")
    entries = [
        {
            "image_id": f"239258{n}",
            "question": f"Can you see thing {n}?",
            "answer": f"There is {n}.",
            "task": task,
        }
        for n, task in enumerate(tasks)
    ]
    save(root, "filter_cap.json", entries)
    for n in range(COUNT):
        save(root, f"image/239258{n}.jpg", jpeg(n))


def pope(root: Path) -> None:
    for strategy in ("random", "popular", "adversarial"):
        asked = [
            {
                "question_id": n + 1,
                "image": coco_name(n),
                "text": f"Is there a thing {n} in the image?",
                "label": "no" if n % 2 else "yes",
            }
            for n in range(COUNT)
        ]
        lines(root, f"coco/coco_pope_{strategy}.json", asked)
    for n in range(COUNT):
        save(root, f"val2014/{coco_name(n)}", jpeg(n))


def amber(root: Path) -> None:
    queries, known = [], []
    for n in range(COUNT):
        image = f"AMBER_{n + 1}.jpg"
        save(root, f"image/{image}", jpeg(n))
        if n < 2:
            queries.append({"id": n + 1, "image": image, "query": "Describe this image."})
            known.append({"id": n + 1, "type": "generative", "truth": ["sky", "tree"], "hallu": ["cloud"]})
        else:
            queries.append({"id": n + 1, "image": image, "query": f"Is thing {n} red?"})
            known.append({"id": n + 1, "type": "discriminative-attribute-state", "truth": "yes"})
    save(root, "data/query/query_all.json", queries)
    save(root, "data/annotations.json", known)


def mmc4(root: Path) -> None:
    documents = []
    for n in range(COUNT):
        names = [f"b{n}{i}.jpg" for i in range(2)]
        infos = [
            {
                "face_detections": None,
                "image_name": name,
                "matched_sim": 0.25 + i / 4,
                "matched_text_index": 2 - 2 * i,
                "raw_url": f"http://x/{name}",
            }
            for i, name in enumerate(names)
        ]
        if n == 1:  # as OpenFlamingo packs it
            infos[0]["image_base64"] = base64.b64encode(jpeg(10)).decode()
        else:
            save(root, f"images/{names[0]}", jpeg(10 * n))
        if n != 2:  # lost by the web
            save(root, f"images/{names[1]}", jpeg(10 * n + 1))
        documents.append(
            {
                "url": f"http://x/{n}.html",
                "text_list": [f"First {n}.", f"Second {n}.", f"Third {n}."],
                "image_info": infos,
                "similarity_matrix": [[0.1, 0.2, 0.25], [0.5, 0.1, 0.1]],
                "could_have_url_duplicate": 0,
            }
        )
    lines(root, "docs_no_face_shard_0_v2.jsonl", documents)


def obelics(root: Path) -> None:
    documents = []
    for n in range(COUNT):
        address = f"http://x/{n}.jpg"
        save(root, f"images/{hashlib.sha256(address.encode()).hexdigest()}.jpg", jpeg(n))
        documents.append(
            {
                "images": [None, address, None],
                "texts": [f"Before {n}.", None, f"After {n}."],
                "metadata": json.dumps([None, {"src": address, "format": "jpg"}, None]),
                "general_metadata": json.dumps({"url": f"http://x/{n}.html"}),
            }
        )
    lines(root, "train-00000-of-00001.jsonl", documents)


def laion(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / "00000.tar", "w") as tar:
        for n in range(COUNT):
            key = f"0000000{n}"
            fields = {
                "url": f"http://x/{n}",
                "caption": f"thing {n}",
                "key": key,
                "status": "success",
                "width": 16,
            }
            members = {"jpg": jpeg(n), "json": json.dumps(fields).encode(), "txt": f"thing {n}".encode()}
            for extension, data in members.items():
                add(tar, f"{key}.{extension}", data)


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Adds a member; `fields` are set on its header."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def imagenet(root: Path) -> None:
    for n, (part, synset) in enumerate(
        [
            ("train", "n01440764"),
            ("train", "n01443537"),
            ("train", "n01443537"),
            ("val", "n01440764"),
            ("val", "n01443537"),
        ]
    ):
        save(root, f"{part}/{synset}/{synset}_{n}.JPEG", jpeg(n))
    names = b"n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    save(root, "LOC_synset_mapping.txt", names)


WRITERS: dict[str, Callable[[Path], None]] = {
    "coco": coco,
    "coco_official": coco_official,
    **{
        writer.__name__: writer
        for writer in (
            flickr30k, nocaps, vqav2, gqa, textvqa, vizwiz, llava, lrv, pope, amber, mmc4, obelics, laion,
            imagenet,
        )
    },
}  # fmt: skip

if __name__ == "__main__":
    WRITERS[sys.argv[1]](Path(sys.argv[2]))
