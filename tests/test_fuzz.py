"""A hundred random inputs of each kind; `python tests/fuzz.py` takes many more."""

import pytest

import fuzz


@pytest.mark.parametrize("name", fuzz.CHECKS)
def test_nothing_but_taken_or_refused(name: str) -> None:
    fuzz.outcomes.clear()
    fuzz.run(name, 100)
    assert len(fuzz.outcomes) == 2, "both kinds were among them"
