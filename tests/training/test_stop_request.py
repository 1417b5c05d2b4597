"""What tells a run to stop."""

import os
import signal

import pytest

from finetune.training.stopping import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_heard_and_the_handlers_before_are_put_back(number):
    before, stop = signal.getsignal(number), StopRequest()
    assert stop.reason is None
    with stop.listening():
        os.kill(os.getpid(), number)
        assert stop.reason == number.name
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once():
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
