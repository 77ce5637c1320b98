"""A circuit keeps callers away from what has just failed, and lets one of them look whether it is back."""

from halfdrop.cache.circuit import BACK_OFF_MAX_S, BACK_OFF_S, Circuit


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_everyone_may_call_while_nothing_fails() -> None:
    circuit = Circuit(ManualClock())
    assert all(circuit.admit() for _ in range(3))
    assert not circuit.is_open


def test_after_a_failure_nobody_may_call_until_the_pause_is_over_and_then_one() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    circuit.fail()
    assert not circuit.admit()
    clock.now_s += BACK_OFF_S
    assert [circuit.admit() for _ in range(3)] == [True, False, False]


def test_a_success_lets_everyone_in_again() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    circuit.fail()
    clock.now_s += BACK_OFF_S
    assert circuit.admit()
    circuit.succeed()
    assert not circuit.is_open
    assert all(circuit.admit() for _ in range(3))


def test_calls_that_fail_together_count_as_one_failure() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    for _ in range(100):
        assert circuit.admit()
    for _ in range(100):
        circuit.fail()
    clock.now_s += BACK_OFF_S
    assert circuit.admit()


def test_the_pause_doubles_up_to_a_bound() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    circuit.fail()
    pauses = []
    for _ in range(50):
        began_s = clock.now_s
        while not circuit.admit():
            clock.now_s += BACK_OFF_S / 2
        circuit.fail()
        pauses.append(clock.now_s - began_s)
    assert pauses[:5] == [BACK_OFF_S, 2 * BACK_OFF_S, 4 * BACK_OFF_S, 8 * BACK_OFF_S, 16 * BACK_OFF_S]
    assert set(pauses[5:]) == {BACK_OFF_MAX_S}


def test_a_caller_that_never_reports_back_does_not_close_the_door_for_ever() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    circuit.fail()
    clock.now_s += BACK_OFF_S
    assert circuit.admit()  # cancelled, say
    clock.now_s += BACK_OFF_MAX_S
    assert circuit.admit()
