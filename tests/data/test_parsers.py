"""Whatever the bytes, a parser gives records, bad records or one sentence, and what was written."""

import csv
import io
import json
import string
import tarfile

import msgpack
import pytest
from fixtures import add
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmjax.data.records import (
    KINDS,
    ROLES,
    Audio,
    BadRecord,
    Conversation,
    Document,
    Record,
    Turn,
    Video,
    decode,
    pictures,
    texts,
)
from mmjax.data.sources.dataset import parsed
from mmjax.data.sources.files import inside
from mmjax.data.sources.rows import csv_rows, json_lines, tsv_rows
from mmjax.data.sources.tar import DamagedTar, members
from mmjax.errors import UserError

quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), database=None)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)
BYTES = st.binary(max_size=40)
BROKEN_TEXT = st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))
ID = st.text(string.ascii_letters + string.digits + "äß顔/_.", min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text("ab顔"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=5,
)
FACTS = st.dictionaries(st.text("abc", min_size=1), JSON, max_size=2)


@st.composite
def documents(draw):
    parts = tuple(draw(st.lists(TEXT | BYTES, min_size=1, max_size=5)))
    count = sum(isinstance(part, bytes) for part in parts)
    near = draw(st.just(()) | st.tuples(*[st.floats(-1, 1)] * count))
    return Document(id=draw(ID), parts=parts, similarity=near, facts=draw(FACTS))


@st.composite
def conversations(draw):
    said = draw(st.lists(st.tuples(st.sampled_from(ROLES), TEXT), min_size=1, max_size=4))
    turns = tuple(Turn(role, text) for role, text in said)
    count = sum(turn.text.count("<image>") for turn in turns)
    images = tuple(draw(st.lists(BYTES, min_size=count, max_size=count)))
    return Conversation(id=draw(ID), images=images, turns=turns, facts=draw(FACTS))


RECORDS = (
    st.builds(Record, id=ID, image=BYTES, caption=TEXT, facts=FACTS)
    | documents()
    | conversations()
    | st.builds(
        Video,
        id=ID,
        frames=st.lists(BYTES, min_size=1, max_size=3).map(tuple),
        rate=st.floats(0.1, 100),
        caption=TEXT,
        facts=FACTS,
    )
    | st.builds(Audio, id=ID, sound=BYTES, caption=TEXT, facts=FACTS)
)


@quick
@given(RECORDS)
def test_any_record_comes_back(record):
    data = record.encode()
    assert decode(data) == record == type(record).decode(data)
    assert decode(data).encode() == data
    assert ("facts" in msgpack.unpackb(data)) == bool(record.facts)
    assert all(isinstance(picture, bytes) for picture in pictures(record)) and texts(record) is not None


@quick
@given(RECORDS, st.data())
def test_damage_to_a_record_is_told_or_harmless(record, data):
    packed = bytearray(record.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    packed = bytes(packed[: data.draw(st.integers(0, len(packed)))])
    try:
        found = decode(packed)
    except BadRecord as bad:
        assert bad.kind and bad.message
    else:
        assert isinstance(found, KINDS)


@quick
@given(
    JSON | st.dictionaries(st.sampled_from(["id", *(kind.MARK for kind in KINDS), "caption"]), JSON | BYTES)
)
def test_any_value_is_a_record_or_told(value):
    try:
        assert isinstance(decode(msgpack.packb(value)), KINDS)
    except BadRecord as bad:
        assert bad.kind


CELL = st.text(
    st.characters(exclude_characters="\0\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", exclude_categories=["Cs"])
)


@quick
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.sampled_from(",;\t|"))
def test_what_a_csv_writer_wrote_is_read(cells, delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("image", "caption"), *cells])
    rows = list(csv_rows(file.getvalue()))
    assert [tuple(row.values()) for row in rows] == cells


@quick
@given(st.lists(st.text('ab,"\n;', max_size=12), max_size=8))
def test_no_csv_line_is_lost_silently(lines):
    """Sound rows after any damage are still found: a quote swallows nothing but what it can close."""
    text = "image,caption\n" + "\n".join(lines) + "\nlast.png,the end\n"
    rows = list(csv_rows(text))
    closed = not any('"' in line for line in lines)
    last = {"image": "last.png", "caption": "the end"}
    told = [row for row in rows if isinstance(row, BadRecord)]
    assert all(row.kind == "bad CSV row" and "line" in row.id for row in told)
    assert rows[-1] == last or "last.png" in str(rows[-1])
    if closed:
        assert len(rows) == 1 + sum(bool(line) for entry in lines for line in entry.split("\n"))


@quick
@given(BROKEN_TEXT, st.sampled_from([csv_rows, tsv_rows, json_lines]))
def test_no_text_breaks_a_table(text, reader):
    try:
        rows = list(reader(text, "t"))
    except UserError as error:
        assert "no header" in str(error)
    else:
        assert all(isinstance(row, dict | BadRecord) for row in rows)


@quick
@given(st.lists(JSON, max_size=5))
def test_json_lines(values):
    rows = list(json_lines("\n".join(json.dumps(value) for value in values)))
    for row, value in zip(rows, values, strict=True):
        assert row == value if isinstance(value, dict) else row.kind == "not a JSON object"


NAME = st.text(string.ascii_lowercase + "äßé顔_-", min_size=1, max_size=60)


@quick
@given(st.dictionaries(NAME, BYTES, max_size=5), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_any_tar_is_read_as_the_standard_library_reads_it(files, format):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, data in files.items():
            add(tar, name, data)
    data = file.getvalue()
    found = {
        one.name: data[one.offset : one.offset + one.size] for one in members(io.BytesIO(data), len(data))
    }
    assert found == files


def small_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "a.png", b"x" * 600)
        add(tar, "ä" * 80, b"y")
        add(tar, "b.txt", b"z")
    return file.getvalue()[: tar.offset]


TAR = small_tar()


@quick
@given(
    st.lists(st.tuples(st.integers(0, len(TAR) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(TAR)),
)
def test_damage_to_a_tar_is_told_or_harmless(changes, length):
    data = bytearray(TAR)
    for place, value in changes:
        data[place] = value
    data = bytes(data[:length])
    try:
        for member in members(io.BytesIO(data), len(data)):
            assert member.offset >= 0 and member.offset + member.size <= len(data)
    except DamagedTar as error:
        assert str(error)


@quick
@given(st.text(st.characters(), max_size=30) | st.text("./\\ab~:", max_size=12))
def test_no_name_leads_out_of_its_folder(name):
    try:
        path = inside("id", "/data/pictures", name)
    except BadRecord as bad:
        assert bad.kind in (
            "missing image",
            "broken file name",
            "picture not here",
            "path outside the folder",
        )
    else:
        assert path == "/data/pictures" or path.startswith("/data/pictures/")
        assert ".." not in path.split("/")


@quick
@given(st.text(max_size=40))
def test_any_text_is_a_spec(text):
    kind, path, options = parsed(text)
    assert isinstance(path, str) and isinstance(options, dict) and (not kind or text.startswith(f"{kind}:"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("../x", "path outside the folder"), ("/etc/passwd", "path outside the folder"), (7, "missing image")],
)
def test_names_that_lead_out(name, kind):
    with pytest.raises(BadRecord) as caught:
        inside("id", "/data", name)
    assert caught.value.kind == kind
