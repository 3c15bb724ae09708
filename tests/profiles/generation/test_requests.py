"""What is asked about each entity."""

from __future__ import annotations

import pytest

from recbole_llmkt.profiles.generation.requests import RequestMaker
from tests.profiles.generation.helpers import write_items


@pytest.fixture
def dataset(make_dataset):
    dataset = make_dataset(n_users=6, n_items=12, per_user=(6, 8))
    write_items(dataset, without=("i0",))
    return dataset


def make(dataset, entity, **keys):
    return RequestMaker(dataset.config(profile_generator="template", **keys), entity)


def test_items_without_a_title_are_left_out_with_a_warning(dataset, caplog):
    maker = make(dataset, "item")
    assert "i0" not in maker.digests
    assert set(maker.digests) == {row[1] for row in dataset.rows} - {"i0"}
    assert "1 of 12 items, such as 'i0', have no title" in caplog.text
    request = maker("i1")
    assert (request.entity, request.history, request.messages) == ("item", None, [])
    assert (request.context["title"], request.context["year"]) == ("The Story of i1", "1951")


def test_a_user_is_described_by_training_interactions_alone(dataset):
    maker = make(dataset, "user", profile_max_history=100)
    for token in maker.digests:
        rows = sorted((row for row in dataset.rows if row[0] == token), key=lambda row: row[3])
        train = rows[: maker(token).context["n_interactions"]]
        assert len(train) < len(rows)
        wanted = {(f"The Story of {row[1]}", f"{row[2]}") for row in train if row[1] != "i0"}
        items = maker(token).context["items"]
        assert {(item["title"], item["rating"]) for item in items} == wanted
        assert [item["number"] for item in items] == list(range(1, len(items) + 1))


def test_the_history_is_cut_and_its_digest_is_that_of_the_whole(dataset):
    short = make(dataset, "user", profile_max_history=2)
    whole = make(dataset, "user", profile_max_history=100)
    assert short.digests == whole.digests
    token = next(iter(short.digests))
    assert len(short(token).context["items"]) == 2
    assert short(token).context["n_interactions"] == whole(token).context["n_interactions"]
    assert short(token).history == whole(token).history is not None


def test_a_language_model_gets_messages_with_the_titles(dataset):
    keys = {"profile_model": "m", "profile_api_base": "http://localhost/v1"}
    maker = RequestMaker(dataset.config(profile_generator="openai", **keys), "user")
    request = maker(next(iter(maker.digests)))
    title = request.context["items"][0]["title"]
    assert title in request.messages[-1]["content"]


def test_numbers_of_an_interaction_can_be_used_in_prompts(dataset, tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float\tqty:float\tprice:float\n"
    lines = [f"{row[0]}\t{row[1]}\t{row[3]}\t2\t34.45\n" for row in dataset.rows]
    (dataset.folder / f"{dataset.name}.inter").write_text(header + "".join(lines))
    prompt = tmp_path / "mine.yaml"
    prompt.write_text(
        "system: ''\nuser: '{{ history }}'\n"
        "item_line: '{{ title }}: {{ interaction }}; {{ interaction.price | float * 2 }}'\n"
    )
    keys = {
        "profile_generator": "openai",
        "profile_model": "m",
        "profile_prompt": str(prompt),
        "load_col": {"inter": ["user_id", "item_id", "timestamp", "qty", "price"]},
    }
    maker = RequestMaker(dataset.config(**keys), "user")
    content = maker(next(iter(maker.digests))).messages[0]["content"]
    assert ": qty: 2, price: 34.45; 68.9" in content


def test_the_prompt_is_that_of_the_domain(dataset):
    keys = {"profile_generator": "openai", "profile_model": "m"}
    generic = RequestMaker(dataset.config(**keys), "user")
    assert generic.domain == "generic" and generic.prompt.source.endswith("llmkt-generic.yaml")
    films = RequestMaker(dataset.config(profile_domain="movies", **keys), "user")
    assert films.prompt.source.endswith("llmkt.yaml")
