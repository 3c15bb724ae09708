"""Atomic files: whatever stands in them, a run starts or is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_llmkt.config import Config
from recbole_llmkt.datasets.atomic import AtomicFile
from recbole_llmkt.datasets.checks import check_files
from recbole_llmkt.datasets.loading import load_data
from recbole_llmkt.datasets.metadata import read_item_metadata, read_user_metadata
from recbole_llmkt.utils.exceptions import LLMKTError
from tests.fuzz.cases import TEXT, damaged, no_leftovers, survives

INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + b"".join(
    f"u{user}\ti{item}\t{item % 5 + 1}\t{user * 10 + item}\n".encode()
    for user in range(5)
    for item in range(6)
)
ITEM = b"item_id:token\ttitle:token_seq\tyear:float\n" + b"".join(
    f"i{n}\tFilm no. {n}\t{1990 + n}\n".encode() for n in range(6)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "tiny").mkdir()
    return folder


def config_of(folder, **keys):
    settings = {
        "data_path": str(folder),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "RATING_FIELD": "rating",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": "*"},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "topk": [2],
        "metrics": ["NDCG"],
        "valid_metric": "NDCG@2",
        "kt_enabled": False,
        **keys,
    }
    return Config("BPR", "tiny", config_dict=settings, command_line=[])


@given(
    st.just(INTER) | damaged(INTER),
    st.just(ITEM) | damaged(ITEM),
    st.sampled_from(
        [{}, {"encoding": "utf-8-sig"}, {"encoding": "utf-16"}, {"field_separator": ","}]
    ),
)
@example(INTER.replace(b"\t3\t", b"\t1e400\t"), ITEM, {})
@example(INTER.replace(b"u1", b"nan").replace(b"u2", b"NULL").replace(b"u3", b""), ITEM, {})
@example(INTER, ITEM.replace(b"1991", b""), {})
@example(INTER[: INTER.index(b"u1")], ITEM, {})
def test_files_of_a_dataset(folder, inter, item, keys):
    (folder / "tiny" / "tiny.inter").write_bytes(inter)
    (folder / "tiny" / "tiny.item").write_bytes(item)
    config = config_of(folder, **keys)
    if isinstance(survives(check_files, config), LLMKTError):
        return
    survives(read_item_metadata, config)
    survives(read_user_metadata, config)
    loaded = survives(load_data, config)
    if not isinstance(loaded, LLMKTError):
        assert loaded[0].user_num > 1 and len(loaded[1]._dataset) > 0


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_any_rows_are_read_or_refused(folder, rows):
    path = folder / "tiny" / "made.user"
    text = "user_id:token\ttext:token_seq\n" + "".join(f"{a}\t{b}\n" for a, b in rows)
    path.write_bytes(text.encode(errors="surrogatepass"))
    table = survives(AtomicFile, path, config_of(folder))
    if isinstance(table, AtomicFile):
        survives(lambda: list(table.rows()))
    no_leftovers(folder)
