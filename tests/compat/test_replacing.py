from __future__ import annotations

import pytest

from recbole_llmkt.compat.replacing import replaced


class Owner:
    @staticmethod
    def method():
        return "own"


class Heir(Owner):
    pass


def test_an_attribute_is_put_back_as_it_was_even_after_an_error():
    before = vars(Owner)["method"]
    with pytest.raises(ValueError, match="inside"), replaced(Owner, "method", lambda self: "new"):
        assert Owner().method() == "new"
        raise ValueError("inside")
    assert vars(Owner)["method"] is before  # still a static method
    assert Owner().method() == "own"


@pytest.mark.parametrize(("owner", "name"), [(Owner, "missing"), (Heir, "method")])
def test_what_is_not_the_owners_own_is_refused(owner, name):
    with pytest.raises(KeyError, match=name), replaced(owner, name, None):
        pass
    assert name not in vars(owner)
