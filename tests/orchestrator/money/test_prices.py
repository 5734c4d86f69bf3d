"""Prices: where one is from, what is never guessed, and what the shipped file may hold."""

import datetime

import pytest

from orchestrator.cloud.gpus import DRIVER_NAMES
from orchestrator.errors import UsageError
from orchestrator.money.prices import part_rows, price_of, price_of_container, price_rows, providers
from orchestrator.spec import Target

H100 = "NVIDIA H100 80GB HBM3"
EIGHT = Target(device="cuda", gpu=H100, gpus=8, processes=8, dtype="bf16")
CPU = Target(device="cpu")
SIMULATED = Target(device="cpu", gpu="H100", gpus=8)


def of(target, given=None, provider=None, rented=True):
    return price_of(target, given=given, place="--price", provider=provider, rented=rented)


def test_every_listed_price_has_a_date_a_source_and_one_row():
    """No two rows tell of the same GPUs of a provider, each is dated by a month that has come, and says who says so."""
    keys = [(row.provider, row.gpu, row.gpus) for row in price_rows()]
    assert len(set(keys)) == len(keys) and (("modal", H100, 8) in keys)
    parts = [(row.provider, row.part) for row in part_rows()]
    assert len(set(parts)) == len(parts)
    for row in (*price_rows(), *part_rows()):
        assert datetime.date.fromisoformat(f"{row.as_of}-01") <= datetime.date.today() and len(row.source) > 10


@pytest.mark.parametrize("target", [EIGHT, CPU, SIMULATED])
def test_a_given_price_is_taken_for_anything(target):
    """Also for a CPU and for GPUs that are only declared, so that all that money does can be tried without any."""
    price = of(target, given=31.5, rented=False)
    assert (price.usd_per_hour, price.source, price.free) == (31.5, "--price", False)


def test_what_is_there_anyway_is_free():
    """This machine's own GPUs, any CPU, and GPUs that are not there cost nothing that we could count."""
    for target, rented in ((EIGHT, False), (CPU, True), (CPU, False), (SIMULATED, True)):
        assert of(target, rented=rented).free
    assert of(EIGHT, given=0.0).free


def test_the_price_of_a_provider_is_its_row():
    """With the month it is from and its source; the eight H100 of the race cost what the notes say."""
    price = of(EIGHT, provider="modal")
    assert price.usd_per_hour == 31.59 and "2026-06" in price.source
    assert price.usd(3600) == 31.59


def test_an_unknown_price_is_never_guessed():
    """Without a provider the listed ones are told and none is taken; what a provider does not list is unknown too."""
    nobody = of(EIGHT)
    assert nobody.usd_per_hour is None and nobody.usd(1.0) is None
    assert "31.59 (modal, 2026-06)" in nobody.source and "--provider" in nobody.source
    other = Target(device="cuda", gpu="NVIDIA B300", gpus=3, processes=3)
    assert of(other).usd_per_hour is None and "nobody is listed" in of(other).source
    assert of(other, provider="modal").usd_per_hour is None and "8x NVIDIA H100" in of(other, provider="modal").source


@pytest.mark.parametrize("given", [-1.0, float("nan"), float("inf")])
def test_an_impossible_price_is_refused(given):
    """The message shows what was given, and how a price is written."""
    with pytest.raises(UsageError, match="is no price; write USD an hour"):
        of(CPU, given=given)


def test_an_unknown_provider_is_refused_with_those_that_there_are():
    """Also where nothing would be paid: a name that is wrong today is wrong on the cluster."""
    with pytest.raises(UsageError, match=f"there are {', '.join(providers())}"):
        of(CPU, provider="modla")


def container(gpu=None, gpus=0, cores=2.0, gib=4.0, provider="modal", given=None):
    return price_of_container(gpu, gpus, cores, gib, provider=provider, given=given, place="--price")


def test_a_container_costs_its_gpus_and_what_is_beside_them():
    """A record's eight H100 with the cores and the memory that are asked for: a twentieth more than the GPUs alone."""
    price = container(H100, 8, 16.0, 64.0)
    assert price.usd_per_hour == pytest.approx(31.59 + 16 * 0.0000131 * 3600 + 64 * 0.00000222 * 3600, abs=0.01)
    told = "modal, 2025-06: 8x NVIDIA H100 80GB HBM3 31.59, 16 cores 0.76, 64 GiB 0.51"  # of its rows the oldest date
    assert price.source == told


def test_a_container_without_gpus_has_a_price_too():
    """It is small and not nothing: a budget counts it."""
    price = container(cores=2.0, gib=4.0)
    assert price.usd_per_hour == pytest.approx(2 * 0.0472 + 4 * 0.0080) and not price.free


@pytest.mark.parametrize("gpu", DRIVER_NAMES.values())
def test_every_gpu_that_can_be_asked_for_has_a_price(gpu):
    """One, and so many times that for more, where these have no row of their own."""
    one, three = (container(gpu, count, 0.0, 0.0).usd_per_hour for count in (1, 3))
    assert one is not None and three == pytest.approx(3 * one, rel=0.01)


def test_the_price_of_a_container_is_never_guessed():
    """Another GPU, or a provider whose cores nobody listed; a given price is that of all of it."""
    assert (
        container("NVIDIA B300", 1).usd_per_hour is None
        and "not listed with NVIDIA B300" in container("NVIDIA B300", 1).source
    )
    assert container(H100, 8, provider="lambda").usd_per_hour is None
    assert container("NVIDIA B300", 1, given=3.5).usd_per_hour == 3.5
    with pytest.raises(UsageError, match="is no price"):
        container(given=-1.0)
