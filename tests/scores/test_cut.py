"""What a cut keeps is what sorting all scores gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmless_runtime.errors import ConfigError
from harmless_runtime.scores import spool as spool_module
from harmless_runtime.scores.cut import Wanted, choices, count_kept, find_cut, parse_amount
from harmless_runtime.scores.spool import spooled

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Scores of other programs may have more digits than the model's.
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
SOME = st.sampled_from([0.0, -0.0, 1.5, -1.5, 1e-45, -1e-45, 1e39, -1e39, 1 + 2**-52, 5e-324])


@given(
    st.lists(st.none() | FLOATS | DOUBLES | SOME, max_size=60), st.integers(0, 70), st.booleans()
)
def test_the_highest_and_the_lowest(scores: list[float | None], count: int, is_top: bool) -> None:
    order = sorted(
        (i for i, score in enumerate(scores) if score is not None),
        key=lambda i: (-scores[i] if is_top else scores[i], i),  # type: ignore[operator]
    )
    with pytest.MonkeyPatch.context() as patches, spooled(scores) as spool:
        patches.setattr(spool_module, "_BLOCK_ROWS", 7)
        cut = find_cut(Wanted(end="top" if is_top else "bottom", count=count), spool)
        kept = [i for i, is_kept in enumerate(choices(cut, spool)) if is_kept]
        assert kept == sorted(order[:count])
        told = [s for i in kept if (s := scores[i]) is not None]
        assert count_kept(cut, spool) == (
            (len(kept), min(told), max(told)) if told else (0, None, None)
        )


@given(st.lists(FLOATS, max_size=20), FLOATS)
def test_above_and_below_share_the_rows(scores: list[float], at: float) -> None:
    with spooled(scores) as spool:
        above = list(choices(find_cut(Wanted(above=at), spool), spool))
        below = list(choices(find_cut(Wanted(below=at), spool), spool))
    assert above == [score >= at for score in scores]
    assert below == [score < at for score in scores]


@pytest.mark.parametrize("score", [0.1, float(np.float32(0.1))])
def test_limit_means_the_number_in_json_and_in_parquet(score: float) -> None:
    for limit in (0.1, float(np.float32(0.1))):
        with spooled([score, 1e39, -1e39]) as spool:
            above = list(choices(find_cut(Wanted(above=limit), spool), spool))
            below = list(choices(find_cut(Wanted(below=limit), spool), spool))
        assert (above, below) == ([True, True, False], [False, False, True])


def test_amounts() -> None:
    assert parse_amount("20") == (20, None)
    assert parse_amount("90%") == (None, 0.9)
    for text in ("-1", "101%", "x", "", "1.5", "nan%"):
        with pytest.raises(ConfigError, match="neither a number of rows"):
            parse_amount(text)
