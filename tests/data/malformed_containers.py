"""Sources with something malformed in them, by name: what is counted, and what is refused."""

import gzip
import json
import tarfile

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq
from arrow_directories import saved
from fixtures import add
from pictures import RawRecord, noise, records

from mmjax.data.worlds.world import write, write_records

GOOD = 3  # good records before and after what is malformed, each


def tar(root, *members, cut=0):
    """A tar of good samples with some members in their midst, cut by some bytes."""
    with tarfile.open(root / "data.tar", "w") as file:
        for i in range(GOOD):
            add(file, f"{i}.png", noise(i))
            add(file, f"{i}.txt", b"thing")
        for name, data, fields in members:
            add(file, name, data, **fields)
        for i in range(GOOD, 2 * GOOD):
            add(file, f"{i}.png", noise(i))
            add(file, f"{i}.txt", b"thing")
        end = file.offset
    data = (root / "data.tar").read_bytes()[: end - cut]
    (root / "data.tar").write_bytes(data)
    return f"{root / 'data.tar'}?held_out_share=0"


def sample(**members):
    return [(f"bad.{name}", data, {}) for name, data in members.items()]


def damaged_header(root):
    spec = tar(root, *sample(png=noise(0), txt=b"thing"))
    path = root / "data.tar"
    data = bytearray(path.read_bytes())
    place = data.index(b"bad.png")
    data[place + 3] ^= 1
    path.write_bytes(bytes(data))
    return spec


def csv(root, *lines, header="image,caption"):
    for i in range(2 * GOOD):
        (root / f"{i}.png").write_bytes(noise(i))
    good = [f"{i}.png,thing {i}".encode() for i in range(2 * GOOD)]
    lines = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path = root / "data.csv"
    path.write_bytes(b"\n".join([header.encode(), *good[:GOOD], *lines, *good[GOOD:], b""]))
    return f"{path}?held_out_share=0"


def jsonl(root, line):
    for i in range(2 * GOOD):
        (root / f"{i}.png").write_bytes(noise(i))
    good = [json.dumps({"image": f"{i}.png", "caption": f"thing {i}"}).encode() for i in range(2 * GOOD)]
    line = line if isinstance(line, bytes) else line.encode()
    (root / "data.jsonl").write_bytes(b"\n".join([*good[:GOOD], line, *good[GOOD:], b""]))
    return f"{root / 'data.jsonl'}?held_out_share=0"


def repeated_ids(root):
    csv(root)
    rows = "".join(f"{i % 6}.png,thing {i},{i % 6}\n" for i in range(7))
    (root / "ids.csv").write_text(f"image,caption,id\n{rows}")
    return f"{root / 'ids.csv'}?held_out_share=0"


def raw(root, **fields):
    """A record file with one record of these fields in its midst."""
    members = records(2 * GOOD)
    members.insert(GOOD, RawRecord(msgpack.packb({"id": "bad", **fields}, unicode_errors="surrogatepass")))
    return write(root / "world", {"train": members}, {}).directory


def conversation(root, *turns, images=(), **fields):
    return raw(root, turns=list(turns), images=list(images), **fields)


def parquet(root, image=None, caption="thing"):
    images = [noise(i) for i in range(2 * GOOD)]
    images.insert(GOOD, image)
    captions = [f"thing {i}" for i in range(2 * GOOD)]
    captions.insert(GOOD, caption)
    pq.write_table(pa.table({"image": images, "caption": captions}), root / "data.parquet")
    return f"{root / 'data.parquet'}?held_out_share=0"


def arrayrecords(root, data):
    for i in range(2):
        write_records(
            root / f"{2 * i}.arrayrecord", [one.encode() for one in records(2 * GOOD)[i * GOOD :][:GOOD]]
        )
    write_records(root / "1.arrayrecord", data)
    return str(root)


PICTURE, TEXT = noise(0), b"thing"
# Good records that go with what is malformed: nothing tells where a tar goes on after damage.
LOST = {"tar cut within a member": 1, "tar cut within a header": 1, "tar with a damaged header": GOOD}
# name -> (writer of a source with 6 good records, kinds of problem expected)
COUNTED = {
    # tar
    "tar cut within a member": (lambda r: tar(r, cut=510), ["missing caption", "cut or damaged shard"]),
    "tar cut within a header": (lambda r: tar(r, cut=900), ["missing caption", "cut or damaged shard"]),
    "tar with a damaged header": (damaged_header, ["cut or damaged shard"]),
    "tar path with dots": (lambda r: tar(r, ("../../evil.png", PICTURE, {})), ["unsafe path"]),
    "tar path from the root": (lambda r: tar(r, ("/etc/evil.png", PICTURE, {})), ["unsafe path"]),
    "tar path of Windows": (lambda r: tar(r, ("C:\\evil.png", PICTURE, {})), ["unsafe path"]),
    "tar symbolic link": (
        lambda r: tar(r, ("bad.png", b"", dict(type=tarfile.SYMTYPE, linkname="/etc/passwd"))),
        ["link in tar"],
    ),
    "tar hard link": (
        lambda r: tar(r, ("bad.png", b"", dict(type=tarfile.LNKTYPE, linkname="0.png"))),
        ["link in tar"],
    ),
    "tar device": (lambda r: tar(r, ("bad.png", b"", dict(type=tarfile.CHRTYPE))), ["device in tar"]),
    "tar pipe": (lambda r: tar(r, ("bad.png", b"", dict(type=tarfile.FIFOTYPE))), ["device in tar"]),
    "tar member of an unknown type": (
        lambda r: tar(r, ("bad.png", b"", dict(type=b"Z"))),
        ["unknown tar member"],
    ),
    "tar key that comes again": (lambda r: tar(r, ("0.png", PICTURE, {})), ["duplicate key"]),
    "tar part that comes twice": (
        lambda r: tar(r, *sample(png=PICTURE), ("bad.png", PICTURE, {}), *sample(txt=TEXT)),
        ["duplicate key", "duplicate key", "missing caption"],
    ),
    "tar sample without a picture": (lambda r: tar(r, *sample(txt=TEXT)), ["missing image"]),
    "tar sample without a text": (lambda r: tar(r, *sample(png=PICTURE)), ["missing caption"]),
    "tar json that is none": (lambda r: tar(r, *sample(png=PICTURE, json=b"{")), ["not JSON"]),
    "tar json that is a list": (lambda r: tar(r, *sample(png=PICTURE, json=b"[]")), ["not a JSON object"]),
    "tar json nested without end": (lambda r: tar(r, *sample(png=PICTURE, json=b"[" * 99999)), ["not JSON"]),
    "tar json with a number for a text": (
        lambda r: tar(r, *sample(png=PICTURE, json=b'{"caption": 7}')),
        ["missing caption"],
    ),
    "tar text in broken UTF-8": (lambda r: tar(r, *sample(png=PICTURE, txt=b"a\xff")), ["broken UTF-8"]),
    "tar text with a NUL": (lambda r: tar(r, *sample(png=PICTURE, txt=b"a\0b")), ["NUL in caption"]),
    "tar text without a text": (
        lambda r: tar(r, *sample(png=PICTURE, txt=b"\xef\xbb\xbf \n")),
        ["empty caption"],
    ),
    "tar picture without a byte": (lambda r: tar(r, *sample(png=b"", txt=TEXT)), ["broken picture"]),
    # csv
    "csv row too short": (lambda r: csv(r, "x.png"), ["bad CSV row"]),
    "csv row too long": (lambda r: csv(r, "x.png,a,b"), ["bad CSV row"]),
    "csv quote never closed": (lambda r: csv(r, 'x.png,"open'), ["bad CSV row"]),
    "csv quote closed too early": (lambda r: csv(r, 'x.png,"a"b'), ["bad CSV row"]),
    "csv quote that the next row closes": (
        lambda r: csv(r, 'x.png,"a', 'y.png,"b"'),
        ["bad CSV row", "missing picture"],
    ),
    "csv cell without end": (lambda r: csv(r, f"x.png,{'a' * 200_000}"), ["bad CSV row"]),
    "csv empty caption": (lambda r: csv(r, "5.png,"), ["empty caption"]),
    "csv NUL": (lambda r: csv(r, "5.png,a\0b"), ["NUL in caption"]),
    "csv broken UTF-8": (lambda r: csv(r, b"5.png,a\xffb"), ["broken UTF-8"]),
    "csv broken UTF-8 in a file name": (lambda r: csv(r, b"\xff.png,a"), ["broken file name"]),
    "csv NUL in a file name": (lambda r: csv(r, "a\0.png,a"), ["broken file name"]),
    "csv file that is not there": (lambda r: csv(r, "none.png,a"), ["missing picture"]),
    "csv file that is a folder": (
        lambda r: csv(r, "sub,a") if not (r / "sub").mkdir() else "",
        ["missing picture"],
    ),
    "csv file below a file": (lambda r: csv(r, "0.png/x.png,a"), ["missing picture"]),
    "csv file outside": (lambda r: csv(r, "../x.png,a"), ["path outside the folder"]),
    "csv address": (lambda r: csv(r, "https://x/y.png,a"), ["picture not here"]),
    "csv no file": (lambda r: csv(r, ",a"), ["missing image"]),
    "csv row that comes again": (lambda r: csv(r, "0.png,thing 0"), ["repeated id"]),
    "csv id that comes again": (repeated_ids, ["repeated id"]),
    # json lines
    "json line that is none": (lambda r: jsonl(r, "{bad"), ["not JSON"]),
    "json line that is a list": (lambda r: jsonl(r, "[1]"), ["not a JSON object"]),
    "json line cut": (lambda r: jsonl(r, '{"image": "0.png", "cap'), ["not JSON"]),
    "json line in broken UTF-8": (
        lambda r: jsonl(r, b'{"image": "5.png", "caption": "\xc3"}'),
        ["broken UTF-8"],
    ),
    "json half a surrogate": (
        lambda r: jsonl(r, '{"image": "5.png", "caption": "\\ud800"}'),
        ["broken UTF-8"],
    ),
    "json null": (lambda r: jsonl(r, '{"image": "5.png", "caption": null}'), ["missing caption"]),
    "json number": (lambda r: jsonl(r, '{"image": 5, "caption": "a"}'), ["missing image"]),
    "json NaN": (lambda r: jsonl(r, '{"image": "5.png", "caption": NaN}'), ["missing caption"]),
    "json empty list": (lambda r: jsonl(r, '{"image": "5.png", "caption": []}'), ["missing caption"]),
    "json without a field": (lambda r: jsonl(r, '{"caption": "a"}'), ["missing image"]),
    # columns
    "parquet without a picture": (lambda r: parquet(r), ["missing image"]),
    "parquet without a text": (lambda r: parquet(r, noise(0), None), ["missing caption"]),
    "parquet with half a picture": (lambda r: parquet(r, noise(0)[:99]), ["broken picture"]),
    # record files
    "empty record file": (lambda r: arrayrecords(r, []), ["empty shard"]),
    "record of nothing": (lambda r: arrayrecords(r, [b""]), ["not a record"]),
    "record of another map": (lambda r: raw(r, x=1), ["missing image"]),
    "facts that are no map": (lambda r: raw(r, image=PICTURE, caption="a", facts=[1]), ["wrong facts"]),
    "document of nothing": (lambda r: raw(r, parts=[]), ["wrong parts"]),
    "document of numbers": (lambda r: raw(r, parts=["a", 1]), ["wrong parts"]),
    "document of one similarity too many": (
        lambda r: raw(r, parts=["a", PICTURE], similarity=[0.1, 0.2]),
        ["wrong similarity"],
    ),
    "document with an empty text": (lambda r: raw(r, parts=["", PICTURE]), ["empty text"]),
    "conversation of nobody": (lambda r: conversation(r), ["wrong turns"]),
    "conversation of a stranger": (lambda r: conversation(r, ("oracle", "Yes.")), ["unknown role"]),
    "conversation of numbers": (lambda r: conversation(r, ("user", 7)), ["wrong turns"]),
    "conversation with an empty turn": (lambda r: conversation(r, ("user", " ")), ["empty text"]),
    "conversation with a NUL": (lambda r: conversation(r, ("user", "a\0")), ["NUL in text"]),
    "conversation about a lost picture": (lambda r: conversation(r, ("user", "<image>\na")), ["image marks"]),
    "conversation with a picture too many": (
        lambda r: conversation(r, ("user", "a"), images=[PICTURE]),
        ["image marks"],
    ),
    "conversation whose picture is a text": (
        lambda r: conversation(r, ("user", "<image>"), images=["x"]),
        ["missing image"],
    ),
    "video without frames": (lambda r: raw(r, frames=[], rate=1, caption="a"), ["missing frames"]),
    "video that stands still": (lambda r: raw(r, frames=[PICTURE], rate=0, caption="a"), ["wrong rate"]),
    "sound without bytes": (lambda r: raw(r, sound="x", caption="a"), ["missing sound"]),
}


def cut_file(path, keep=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def hugging_face(root, change):
    saved(root / "d", range(4))
    change(root / "d")
    return str(root / "d")


def cut_arrayrecord(root):
    write_records(root / "a.arrayrecord", [one.encode() for one in records(200)])
    cut_file(root / "a.arrayrecord")
    return str(root / "a.arrayrecord")


def cut_parquet(root):
    parquet(root)
    cut_file(root / "data.parquet")
    return str(root / "data.parquet")


def saved_text(name, data):
    def write_file(root):
        (root / name).write_bytes(data)
        return str(root / name)

    return write_file


def zipped(root):
    tar(root)
    (root / "z.tar").write_bytes(gzip.compress((root / "data.tar").read_bytes()))
    return str(root / "z.tar")


def manifest(text):
    def write_file(root):
        directory = write(root / "w", {"train": records(2)}, {}).directory
        (root / "w" / "manifest.json").write_text(text)
        return directory

    return write_file


# name -> (writer, message): sources of which nothing can be used
REFUSED = {
    "record file cut": (cut_arrayrecord, r"a\.arrayrecord cannot be read"),
    "record file of other bytes": (
        saved_text("a.arrayrecord", b"nonsense" * 999),
        r"a\.arrayrecord cannot be read",
    ),
    "parquet file cut": (cut_parquet, r"data\.parquet cannot be read, it is damaged"),
    "parquet of other bytes": (
        saved_text("a.parquet", b"x" * 99),
        r"a\.parquet cannot be read, it is damaged",
    ),
    "arrow file cut": (
        lambda r: hugging_face(r, lambda d: cut_file(d / "data-00000-of-00002.arrow", 0.3)),
        "cannot be read, it is damaged",
    ),
    "arrow file lost": (
        lambda r: hugging_face(r, lambda d: (d / "data-00000-of-00002.arrow").unlink()),
        "cannot be read",
    ),
    "state.json of another form": (
        lambda r: hugging_face(r, lambda d: (d / "state.json").write_text('{"_data_files": 7}')),
        "has no list '_data_files'",
    ),
    "rows chosen apart": (
        lambda r: hugging_face(r, lambda d: (d / "state.json").write_text('{"_indices_files": [1]}')),
        "flatten_indices",
    ),
    "csv of nothing": (saved_text("a.csv", b""), r"a\.csv has no header"),
    "csv of a header": (saved_text("a.csv", b"image,caption\n"), "holds no record"),
    "csv that repeats a column": (saved_text("a.csv", b"image,image\n1,2\n"), "repeats a name"),
    "tsv of nothing": (saved_text("a.tsv", b""), r"a\.tsv has no header"),
    "json lines of nonsense": (saved_text("a.jsonl", b"x\ny\n"), "line 1: not JSON"),
    "json cut": (saved_text("a.json", b'[{"image": '), r"a\.json is not JSON"),
    "json of a map": (saved_text("a.json", b"{}"), "a list of objects was expected"),
    "json nested without end": (saved_text("a.json", b"[" * 99999), r"a\.json is not JSON"),
    "manifest cut": (manifest('{"splits": '), "not a readable manifest"),
    "manifest of a list": (manifest("[]"), "not a readable manifest"),
    "manifest without files": (manifest('{"splits": {"train": {"count": 2}}}'), "not a readable manifest"),
    "manifest of another count": (
        manifest('{"splits": {"train": {"file": "train.arrayrecord", "count": 9}}}'),
        "holds 2 records but its manifest says 9",
    ),
}
