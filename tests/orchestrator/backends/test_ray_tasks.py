"""The ordered map over Ray tasks: which addresses it takes, its order, how far it reads ahead, its errors."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from golf_core.data.shards import DataError
from orchestrator.backends.base import BackendError, Unavailable
from orchestrator.backends.private_ray import interrupt_deferred
from orchestrator.backends.ray_tasks import AHEAD, RayTasks, check_address
from orchestrator.errors import UsageError


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "10.0.0.1", ":6379", "head:port", "head:70000", ""])
def test_an_address_that_is_none_is_refused(address):
    """Ray Client too, with the reason; without a connection tried."""
    with pytest.raises(UsageError, match="--address"):
        check_address(address)


def test_an_address_where_nothing_answers_is_told_at_once():
    """Ray itself would end the process after a minute."""
    with pytest.raises(Unavailable, match="nothing answers at --address"):
        RayTasks(1, 1, "127.0.0.1:1")


def test_an_interrupt_waits_for_the_end_of_what_it_could_break():
    """Ctrl-C while Ray starts or ends: that is finished, then KeyboardInterrupt, and the next one is at once again."""
    done = []
    with pytest.raises(KeyboardInterrupt):
        with interrupt_deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("begun")
        done.append("gone on with")
    assert done == ["begun"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with ThreadPoolExecutor(1) as pool:  # other threads cannot, and need not
        pool.submit(lambda: interrupt_deferred().__enter__()).result()


def doubling():
    return lambda number: 2 * number


def refusing():
    def refuse(number):
        raise DataError(f"{number} is refused")

    return refuse


def dying():
    def die(number):
        os.kill(os.getpid(), signal.SIGKILL)

    return die


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_results_come_in_order_and_reading_stays_near(tmp_path, capfd):
    """At most `window` items are read beyond what was taken; exceptions come as they are; dead workers end in one."""
    with RayTasks(2, 1 << 20) as tasks:
        read = []

        def items():
            for number in range(60):
                read.append(number)
                yield number

        for taken, result in enumerate(tasks.ordered_map(doubling, items())):
            assert result == 2 * taken
            assert len(read) - taken <= tasks.window == 2 * AHEAD
        found = []
        with pytest.raises(ZeroDivisionError):
            found.extend(tasks.ordered_map(doubling, (4 // number for number in (4, 2, 1, 0))))
        assert found == [2, 4, 8]
        with pytest.raises(DataError, match=r"^7 is refused$"):
            list(tasks.ordered_map(refusing, [7]))
        with pytest.raises(BackendError, match=r"item 7: a worker died 4 times"):
            list(tasks.ordered_map(dying, [7], name=lambda number: f"item {number}"))
        with pytest.raises(Unavailable, match="already"):
            RayTasks(1, 1)
