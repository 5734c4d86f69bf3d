"""How an attempt on Modal ends that nobody is to blame for but its program, or the GPUs that it was given."""

from dataclasses import replace

import pytest

from golf_core.policy import load_policy
from golf_core.rundir import SEAL, read_json
from tests.orchestrator.modal_account import H100, Laptop, workers
from tests.orchestrator.toy import TOY, limits
from tests.processes import until

pytestmark = pytest.mark.xdist_group("modal")

WRONG = {
    "seven of eight": ([H100] * 7, "7"),
    "PCIe": ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
    "NVL": ("NVIDIA H100 NVL", "NVIDIA H100 NVL"),
    "H200": ("NVIDIA H200", "NVIDIA H200"),
}


@pytest.fixture
def shown(account):
    """What containers see when they look for GPUs."""
    yield account.plane.show_gpus
    account.quiet()
    account.plane.show_gpus({"*": H100})


@pytest.mark.parametrize("what", [pytest.param(one, marks=() if one == "PCIe" else pytest.mark.chaos) for one in WRONG])
def test_wrong_hardware_is_refused_before_training(account, shown, tmp_path, what):
    """The container looks before it trains: class and message name what it has, and another container is asked."""
    names, said = WRONG[what]
    asked = account.submission()
    target = replace(asked.target, device="cuda", dtype="bf16", processes=8, launcher="torchrun")
    asked = replace(asked, target=target, policy=load_policy("record-2026-03"))
    shown({"*": names})
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        name = laptop.name()
        until(lambda: (account.kept(name) / "result.json").exists(), lambda: f"a result: {laptop.said()}")
        until(lambda: laptop.states()[1][0][0] == "void", lambda: f"its mark here: {laptop.said()}")
    found = read_json(laptop.attempt() / "result.json")
    assert found["class"] == "wrong_hardware" and said in found["message"]
    assert "step" not in (account.kept(name) / "log.txt").read_text()
    assert laptop.states()[1][0] == ("void", "wrong_hardware") and not (account.kept(name) / SEAL).exists()


ENDS = {1: ("hang", "silent"), 2: ("nan", "nan"), 3: ("memory", "memory"), 4: ("import", "user_error")}
MORE = """    if what == "memory":
        raise MemoryError("the toy has no memory left")
    if what == "import":
        import a_kernel_that_is_not_there
"""


def ending(seeds):
    """The toy, which ends in its third step as ENDS says of its seed."""
    behaviour = {seed: {"train3": ENDS[seed][0]} for seed in seeds}
    text = TOY.replace("BEHAVIOUR = {}", f'BEHAVIOUR = {behaviour}.get(int(os.environ.get("SEED", "0")), {{}})', 1)
    return text.replace("    if what ==", MORE + "    if what ==", 1)


@pytest.mark.parametrize("seeds", [(1, 2), pytest.param(tuple(ENDS), marks=pytest.mark.chaos)])
def test_how_a_program_ends_has_its_class(account, tmp_path, seeds):
    """Fault 15: a hang without output, a loss that is no number, no memory, no module: told as on other backends, and
    not tried again."""
    asked = account.submission(ending(seeds), seeds)
    with Laptop(account, tmp_path, asked, limits=limits(silence_s=3.0)) as laptop:
        assert laptop.run() == {seed: ["stop", ENDS[seed][1]] for seed in seeds}
        account.quiet()
        assert laptop.states() == {seed: [("failed", ENDS[seed][1])] for seed in seeds}
        assert {len(calls) for calls in workers(account, asked).values()} == {1}
