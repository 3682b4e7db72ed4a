"""What accompanies the runs table."""

from distill.table.references import timing_warnings


def speed(tokens: float, disturbed: int = 0, **architecture: object) -> dict[str, object]:
    """A speed record."""
    spec = {"architecture": {"source": {"hub": "a/b"}, **architecture}}
    return {"tokens_per_second": tokens, "disturbed": disturbed, "spec": spec}


def test_timings_that_cannot_be_are_told() -> None:
    right = {"teacher": speed(20), "two": speed(90, layers=2), "four": speed(60, layers=4)}
    assert timing_warnings(right) == []
    (order,) = timing_warnings(right | {"two": speed(13, layers=2)})
    assert order.startswith("two was slower (13 tokens/s) than four (60)")
    (order,) = timing_warnings(right | {"four": speed(13, layers=4)})
    assert order.startswith("four was slower (13 tokens/s) than teacher (20)")
    other = speed(1, config={"hidden_size": 8})
    assert timing_warnings(right | {"random": other}) == []
    (noisy,) = timing_warnings(right | {"two": speed(13, 1, layers=2)})
    assert noisy.startswith("other programs disturbed the timing of two, whose speeds are left out")
