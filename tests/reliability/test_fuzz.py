"""A hundred random inputs of each kind. `python tests/reliability/fuzz.py` takes many more."""

import fuzz
import pytest


@pytest.mark.parametrize("name", fuzz.CHECKS)
def test_random_inputs_are_accepted_or_refused(name: str) -> None:
    fuzz.outcomes.clear()
    fuzz.run(name, 100)
    assert len(fuzz.outcomes) == 2, "both kinds were among them"
