"""The rows come out: those that take seconds one by one, all of them as the command runs them."""

import json
import re
from pathlib import Path

import pytest

from mmjax.cli import reproduce
from mmjax.reproduce import ledger
from mmjax.reproduce.files import Files

FAST = (
    "schedules",
    "masks",
    "losses/*o/*",
    "dit/S/2",
    "clip/ViT-B/32",
    "clip/text",
    "siglip/B/16-256",
    "flamingo/3B",
    "flamingo/idefics",
    "language/llama/1",
    "metrics/pope",
    "metrics/amber",
    "metrics/cmmd",
    "metrics/chair",
    "metrics/vqa",
)


@pytest.mark.parametrize("pattern", FAST)
def test_rows_come_out(pattern):
    rows = [row for row in ledger.rows(pattern) if row.group == "exact"]
    outcomes = list(ledger.run(rows, Files()))
    assert outcomes
    for outcome in outcomes:
        # A conflict that no longer is one must go.
        expected = ledger.DIFFERS if outcome.row.conflict else ledger.REPRODUCED
        assert outcome.status == expected, (outcome.row.id, outcome.value, outcome.reason)


@pytest.mark.slow
def test_the_whole_ledger(tmp_path, capsys):
    file = tmp_path / "ledger.json"
    assert reproduce.main([f"--json={file}"]) == 0, capsys.readouterr().out
    content = json.loads(file.read_text())
    exact = [row for row in content["rows"] if row["group"] == "exact"]
    for row in exact:
        assert row["status"] == (ledger.DIFFERS if row["conflict"] else ledger.REPRODUCED), row
    summary = content["summary"]
    assert summary["reproduced"] >= 300
    assert summary["differ"] == 0


def test_the_readme_states_how_many_rows_there_are():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (stated,) = re.findall(r"([\d,]+) published numbers", readme)
    assert int(stated.replace(",", "")) == len(ledger.rows())
