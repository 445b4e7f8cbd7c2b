"""Reading whole sources, and folders of pictures to read."""

from pictures import noise

from mmjax.data.records import decode
from mmjax.data.sources import caption, open_dataset


def read(spec):
    dataset = open_dataset(spec)
    found = {}
    for split in dataset.splits:
        source = dataset.source(split)
        assert [caption(source, i) for i in range(len(source))] == [
            decode(source[i]).caption for i in range(len(source))
        ]
        found[split] = [decode(source[i]) for i in range(len(source))]
    return found


def captions(spec):
    return {split: [record.caption for record in found] for split, found in read(spec).items()}


def pictures(folder, count=6):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(noise(i))
    return folder
