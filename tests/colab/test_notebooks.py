"""The notebooks run from top to bottom, as a reader would run them, with the tiny settings."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "colab"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def outputs(notebook):
    """All that the cells printed, and the kinds of what they displayed."""
    text, kinds = "", set()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text += output.get("text", "") + output.get("data", {}).get("text/markdown", "")
            kinds |= set(output.get("data", {}))
    return text, kinds


def execute(name, tmp_path, monkeypatch):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {"MMJAX_TINY": "1", "JAX_PLATFORMS": "cpu", "PATH": path, "TPU_SKIP_MDS_QUERY": "1"}
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    return client.execute()


def test_notebooks_are_committed_without_outputs_and_are_short():
    assert [path.stem for path in NOTEBOOKS] == ["plan_a_pod", "quickstart"]
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
        assert len(code) <= 6
        assert all(len(cell["source"]) <= 20 for cell in cells)


@pytest.mark.slow
def test_the_quickstart_shows_pictures_and_captions(tmp_path, monkeypatch):
    text, kinds = outputs(execute("quickstart.ipynb", tmp_path, monkeypatch))
    assert "minutes; see" in text
    assert {"text/html", "image/png"} <= kinds
    assert (tmp_path / "picture.png").exists()


@pytest.mark.slow
def test_a_pod_is_planned_and_compared_with_a_smaller_one(tmp_path, monkeypatch):
    pytest.importorskip("libtpu")
    text, _ = outputs(execute("plan_a_pod.ipynb", tmp_path, monkeypatch))
    table = [line for line in text.splitlines() if line.startswith("| v5e:")]
    assert [line.split(" | ")[:2] for line in table] == [["| v5e:2x2", "4"], ["| v5e:1x1", "1"]]
    assert all("GiB" in line and " ms " in line for line in table)
