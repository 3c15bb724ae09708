"""The file of an embedding map; the map itself is tested with the report."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_llmkt.experiment.report.embedding_map import FILE_NAME, ensure_maps, read_maps
from recbole_llmkt.experiment.runs.plan import Plan
from recbole_llmkt.utils.exceptions import DataError
from tests.experiment.fake_runs import as_record


def write(folder, **changes):
    arrays = {
        "item points": np.float32([[0.0, 1.0], [2.0, 3.0]]),
        "item categories": np.array(["War", ""]),
        "item method": np.array("PCA"),
    }
    np.savez(folder / FILE_NAME, **{**arrays, **changes})


def test_no_file_is_no_map_and_a_file_is_read_by_entity(tmp_path):
    assert read_maps(tmp_path) == []
    write(tmp_path)
    (item_map,) = read_maps(tmp_path)
    assert (item_map.entity, item_map.method) == ("item", "PCA")
    assert item_map.points.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert item_map.categories.tolist() == ["War", ""]


def test_names_of_others_are_plain_text(tmp_path):
    write(tmp_path, **{"item categories": np.array(["\x1b[31mWar\n", "x" * 100])})
    (item_map,) = read_maps(tmp_path)
    assert item_map.categories.tolist() == ["War ", "x" * 60]


@pytest.mark.parametrize(
    "changes",
    [
        {"item points": np.zeros((2, 3), dtype=np.float32)},
        {"item categories": np.array(["War"])},
        {"item categories": np.zeros(2)},
        {"item method": np.array(["PCA", "UMAP"])},
    ],
    ids=["width", "fewer categories", "numbers", "methods"],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, changes):
    write(tmp_path, **changes)
    with pytest.raises(DataError, match=r"not a map of embeddings \(the array 'item .*Delete it"):
        read_maps(tmp_path)


@pytest.mark.parametrize("arm", ["base", "shuffled"])
def test_runs_without_real_profiles_need_no_map(tmp_path, arm):
    runs = Plan(["BPR"], [arm], [1], "ml-100k").runs()
    terms = [{"layer": "user_embedding", "entity": "user"}] if arm != "base" else []
    values = {"model": "BPR", "arm": arm, "seed": 1, "status": "ok"}
    settings = {"kt_enabled": arm != "base", "kt_control": "shuffled"}
    record = as_record({**values, "settings": settings, "transfer": {"terms": terms}})
    ensure_maps(runs, [record], tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "cwd"]
