"""The ledger itself: its rows, its verdicts, and that computing never sees what is expected."""

import ast
import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from mmjax.cli import reproduce
from mmjax.errors import UserError
from mmjax.reproduce import ledger, render
from mmjax.reproduce.files import Files
from mmjax.reproduce.row import EXACT, Question, Row, relative, within

PACKAGE = Path(ledger.__file__).parent
ROWS = ledger.rows()
HALF = Row(id="made/half", what="a half", source="arithmetic", expected=0.5, compute="arithmetic.total",
           of=(0.25, 0.25))  # fmt: skip


def changed(**fields):
    return dataclasses.replace(HALF, **fields)


def outcome(row, **files):
    (found,) = ledger.run([row], Files(**files))
    return found


# Rows


def test_every_row_can_be_traced_and_computed():
    assert len({row.id for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.what and row.source and "/" in row.id, row.id
        if row.compute is None:
            assert row.needs and row.lacks, f"{row.id} has no function and does not say what is missing"
            continue
        files = (Files(),) if row.needs else ()
        inspect.signature(ledger.function(row.question)).bind(*files, *row.of)


def test_there_are_enough_exact_rows():
    assert sum(row.group == "exact" for row in ROWS) >= 300
    assert {row.group for row in ROWS} == {"exact", "needs weights", "needs data"}


def test_rows_that_need_files_name_them_whole():
    for row in ROWS:
        for name in row.needs:
            assert name.startswith(("weights/", "data/")), (row.id, name)
            assert name.count("/") >= (3 if name.startswith("weights/") else 1), (row.id, name)


# Computing does not see what is expected


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_neither_half_imports_the_other():
    for path in (PACKAGE / "measures").glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("mmjax.reproduce")}
        allowed = ("mmjax.reproduce.measures.", "mmjax.reproduce.files.Files")
        assert all(name.startswith(allowed) for name in ours), (path.name, ours)
    for path in (PACKAGE / "published").glob("*.py"):
        assert all(name.startswith("mmjax.reproduce.row.") for name in imports(path)), path.name


def test_a_question_carries_no_answer():
    assert {field.name for field in dataclasses.fields(Question)} == {"function", "arguments", "needs"}
    assert HALF.question == changed(expected=7, tolerance=within(1), conflict="any").question


def test_no_published_figure_stands_in_the_code_that_computes():
    """Every literal of the library outside `published`, against every figure of five digits or more."""

    def figures(value):
        if isinstance(value, tuple):
            return {figure for part in value for figure in figures(part)}
        is_number = isinstance(value, int | float)
        digits = f"{value:.12e}".partition("e")[0].replace(".", "").strip("-0") if is_number else ""
        return {value} if len(digits) >= 5 else set()

    # Hyper-parameters are settings: the library has to know them.
    computed = [row for row in ROWS if row.compute and not row.compute.startswith("configs.")]
    secret = {figure for row in computed for figure in figures(row.expected)}
    found = []
    for path in sorted(PACKAGE.parent.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "published") or path.parent.name == "sizes":
            continue  # sizes hold nothing but published settings
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in secret:
                found.append((path.name, node.value))
    assert len(secret) > 150
    assert not found


# Verdicts


@pytest.mark.parametrize(
    ("tolerance", "value", "expected", "accepted"),
    [
        (EXACT, 3, 3, True),
        (EXACT, 3, 4, False),
        (EXACT, 3.0, 3, False),  # an integer that came out of floats is not counted exactly
        (EXACT, ("10", "01"), ("10", "01"), True),
        (EXACT, ("10",), ("10", "01"), False),
        (within(0.1), 2.05, 2.0, True),
        (within(0.1), 2.15, 2.0, False),
        (within(0.1), (1.0, 2.2), (1.0, 2.0), False),
        (within(0.1), float("nan"), 2.0, False),
        (within(0.1), "2.0", 2.0, False),
        (relative(0.01), 202, 200, True),
        (relative(0.01), 203, 200, False),
        (within(1), "no", "yes", False),
    ],
)
def test_tolerance(tolerance, value, expected, accepted):
    assert tolerance.accepts(value, expected) is accepted


def test_a_wrong_figure_differs_unless_the_conflict_is_documented():
    assert outcome(HALF).status == ledger.REPRODUCED
    wrong = outcome(changed(expected=0.75))
    assert (wrong.status, wrong.value, wrong.is_wrong) == (ledger.DIFFERS, 0.5, True)
    known = outcome(changed(expected=0.75, conflict="the source adds a quarter"))
    assert (known.status, known.reason, known.is_wrong) == (ledger.DIFFERS, known.row.conflict, False)


def test_a_function_that_fails_differs_whatever_is_documented():
    broken = outcome(changed(of=("no number",), conflict="known"))
    assert broken.is_wrong
    assert "arithmetic.total failed" in broken.reason


def test_the_same_question_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(ledger, "function", lambda question: lambda *parts: asked.append(parts) or sum(parts))
    outcomes = list(ledger.run([HALF, changed(id="made/again", expected=0.75)], Files()))
    assert [one.status for one in outcomes] == [ledger.REPRODUCED, ledger.DIFFERS]
    assert asked == [(0.25, 0.25)]


def test_missing_files_are_named(tmp_path):
    row = changed(needs=("weights/owner/model/model.safetensors", "data/set/list.txt"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "list.txt").touch()
    found = outcome(row, data=tmp_path)
    assert (found.status, found.reason) == (ledger.UNCHECKED, "needs weights/owner/model/model.safetensors")


def test_a_row_without_a_function_says_what_is_lacking(tmp_path):
    row = changed(compute=None, needs=("data/x",), lacks="network of that kind")
    (tmp_path / "x").touch()
    assert outcome(row, data=tmp_path).reason == "needs data/x; and mmjax has no network of that kind"


# The command


def run(capsys, monkeypatch, rows, *arguments):
    monkeypatch.setattr(ledger, "rows", lambda pattern: tuple(rows))
    code = reproduce.main(list(arguments))
    return code, capsys.readouterr().out


def test_exit_codes_and_the_last_line(capsys, monkeypatch):
    known = changed(id="made/known", expected=1.0, conflict="printed wrong")
    code, out = run(capsys, monkeypatch, [HALF, known])
    assert code == 0
    assert "✓ half" in out and "≠ known" in out and "printed wrong" in out
    assert "2 published numbers: 1 reproduced, 1 differ with a documented conflict, 0 not checkable" in out
    code, out = run(capsys, monkeypatch, [HALF, changed(id="made/wrong", expected=1.0)])
    assert code == 1
    assert "✗ wrong" in out and "1 differ," in out


def test_files_written(tmp_path, capsys, monkeypatch):
    rows = [HALF, changed(id="made/b|c", expected=(1, (2, 3))), changed(id="other/x", needs=("data/x",))]
    flags = [f"--json={tmp_path / 'x.json'}", f"--markdown={tmp_path / 'x.md'}"]
    code, _ = run(capsys, monkeypatch, rows, *flags)
    assert code == 1
    content = json.loads((tmp_path / "x.json").read_text())
    assert [row["status"] for row in content["rows"]] == ["reproduced", "differs", "not checkable here"]
    assert content["rows"][0]["computed"] == content["rows"][0]["published"] == 0.5
    assert list(content["summary"].values()) == [3, 1, 0, 1, 1]
    document = (tmp_path / "x.md").read_text().splitlines()
    assert [line for line in document if line.startswith("## ")] == ["## made", "## other"]
    tables = [line.replace("\\|", "") for line in document if line.startswith("|")]
    assert {line.count("|") for line in tables} == {6}


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--only=nothing-like-it", "matches no row: the families are"),
        ("--weights=/does/not/exist", "is not a directory"),
        ("--json=/does/not/exist/x.json", "create it first"),
    ],
)
def test_user_errors(flag, sentence):
    with pytest.raises(UserError, match=sentence):
        reproduce.main([flag])


def test_only():
    assert {row.family for row in ledger.rows("clip")} == {"clip"}
    assert all("vit-b/32" in row.id.lower() for row in ledger.rows("ViT-B/32"))
    assert all(row.family == "dit" and row.id.endswith("multiply-adds") for row in ledger.rows("dit/*-adds"))


def test_long_figures_have_lines_of_their_own():
    row = changed(expected=tuple(range(40)))
    lines = list(render.Lines([row]).of(ledger.judge(row, tuple(range(39)))))
    assert [line.split()[0] for line in lines[-2:]] == ["computed", "published"]
