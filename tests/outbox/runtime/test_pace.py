"""How much is taken at a time: pure policy."""

from collections.abc import Callable

from outbox.runtime.pace import Pace


def settle(pace: Pace, works: Callable[[int], float | None], times: int) -> list[int]:
    """Try work of the size that the pace says; `works` says how long it takes, None if it fails."""
    sizes = []
    for _ in range(times):
        sizes.append(pace.size)
        took = works(pace.size)
        if took is None:
            pace.failed()
        else:
            pace.passed(pace.size, took)
    return sizes


def test_what_fails_is_tried_smaller_down_to_one() -> None:
    """Whatever it fails for."""
    assert settle(Pace(100, 1), lambda size: None, 9) == [100, 50, 25, 12, 6, 3, 1, 1, 1]


def test_it_grows_again() -> None:
    """Doubled each time, up to where it failed, from there slowly, and never past all."""
    pace = Pace(64, 1)
    for _ in range(6):
        pace.failed()
    assert pace.size == 1
    assert settle(pace, lambda size: 0, 40)[-1] == 64
    assert pace.size == 64


def test_work_that_fails_from_some_size_on_is_mostly_done_below_it() -> None:
    """It is tried again now and then whether more is possible, not half of the time."""
    sizes = settle(Pace(1000, 1), lambda size: None if size > 100 else 0.1, 200)

    assert sum(size > 100 for size in sizes) < 40
    assert max(sizes[20:]) < 130


def test_it_finds_the_size_that_takes_its_time() -> None:
    """Whether the work stops when the time is over or not."""
    sizes = settle(Pace(1000, 0.5), lambda size: size * 0.01, 5)
    assert sizes == [1000, 50, 50, 50, 50]

    pace = Pace(1000, 0.5)
    pace.passed(40, 0.51)  # cut short
    assert pace.size == 39


def test_one_that_takes_longer_than_its_time_is_done_alone() -> None:
    """There is no less than one, and always one."""
    assert settle(Pace(8, 0.5), lambda size: size * 2.0, 4) == [8, 1, 1, 1]


def test_a_transaction_that_held_makes_it_no_smaller() -> None:
    """Where nothing could be done though nothing failed, there may be something behind it."""
    pace = Pace(64, 1)
    for _ in range(10):
        pace.failed()
    sizes = []
    for _ in range(40):
        pace.held()
        sizes.append(pace.size)

    assert sizes[:4] == [2, 3, 4, 5]
    assert sizes[-1] == 64


def test_a_transaction_that_held_leads_slowly_past_what_has_failed() -> None:
    """It has done nothing, so it is no proof that so much can be done."""
    pace = Pace(100, 1)
    pace.failed()
    pace.passed(50, 2)  # too slow
    assert pace.size == 25
    sizes = []
    for _ in range(3):
        pace.held()
        sizes.append(pace.size)

    assert sizes == [50, 57, 65]
