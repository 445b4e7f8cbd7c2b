"""Directories as `datasets` saves them."""

import json

import pyarrow as pa
import pyarrow.ipc
from pictures import noise


def saved(home, numbers, labels=False):
    """Writes what `datasets` 5 writes with `save_to_disk`."""
    home.mkdir(parents=True)
    features = {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}
    columns = {"image": [{"bytes": noise(i), "path": None} for i in numbers]}
    if labels:
        features["label"] = {"names": ["cat", "dog"], "_type": "ClassLabel"}
        columns["label"] = [i % 2 for i in numbers]
    else:
        columns["text"] = [f"thing {i}" for i in numbers]
    table = pa.table(columns)
    kept = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    names = []
    for part in range(2):
        rows = table.slice(part * 2, 2 if part == 0 else None).replace_schema_metadata(kept)
        names.append(f"data-{part:05d}-of-00002.arrow")
        with pa.ipc.new_stream(home / names[-1], rows.schema) as writer:
            writer.write_table(rows)
    state = {"_data_files": [{"filename": name} for name in names], "_indices_files": None, "_split": None}
    (home / "state.json").write_text(json.dumps(state))
    (home / "dataset_info.json").write_text(json.dumps({"features": features}))
