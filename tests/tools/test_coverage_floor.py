from tools.coverage_floor import find_faults, read_floor


def test_the_floor_is_read_from_the_project() -> None:
    assert read_floor("[tool.coverage.report]\nfail_under = 95.4\n") == 95.4
    assert read_floor("[project]\n") == 0.0


def test_coverage_at_the_floor_is_enough_and_below_it_is_not() -> None:
    assert not find_faults(measured=95.0, floor=95.0, before=95.0)
    (fault,) = find_faults(measured=94.99, floor=95.0, before=95.0)
    assert "94.99 % is below the floor" in fault


def test_the_floor_may_rise_and_not_fall() -> None:
    assert not find_faults(measured=96.0, floor=95.5, before=95.0)
    (fault,) = find_faults(measured=96.0, floor=94.0, before=95.0)
    assert "lowered from 95.0 to 94.0" in fault
