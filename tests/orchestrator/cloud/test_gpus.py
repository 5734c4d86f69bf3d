"""GPUs on Modal: what it has comes out in its words, and whatever it has not is refused before anything starts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.cloud.gpus import DRIVER_NAMES, UPGRADED, CloudGpus, cloud_gpus, of_driver_name
from orchestrator.errors import USAGE, UsageError
from orchestrator.hardware.request import GpuRequest, read_request
from orchestrator.settings import Setting, Settings

KINDS = st.sampled_from(sorted(DRIVER_NAMES))


def asked(text):
    """As `--gpus TEXT` is read, by the same function as everywhere."""
    request = read_request(Settings({"gpus": Setting(text, "--gpus")}))
    return cloud_gpus(request, f"--gpus={text}")


@given(KINDS, st.integers(1, 4), st.booleans(), st.sampled_from([str, str.lower, str.upper]))
def test_a_gpu_is_known_by_any_of_its_names(kind, count, exact, written):
    """Modal's own, in any letters, with its `!` or without; and its driver's, which a run's id has."""
    mark = "!" if exact else ""
    gpus = asked(f"{written(kind)}{mark}:{count}")
    assert gpus == CloudGpus(kind, count) == of_driver_name(gpus.name, count)
    assert cloud_gpus(GpuRequest(written(DRIVER_NAMES[kind]), count), "--gpus") == gpus


@given(KINDS, st.integers(1, 4))
def test_the_exact_model_is_insisted_on(kind, count):
    """Where Modal would serve a better one for the same money: a record's timing would be another machine's."""
    assert CloudGpus(kind, count).asked == f"{kind}{'!' if kind in UPGRADED else ''}:{count}"
    assert asked("H100:8").asked == asked("H100!:8").asked == "H100!:8"


def test_no_two_models_share_a_name():
    """A run is counted for the model that its driver names."""
    assert len({name.casefold() for name in [*DRIVER_NAMES, *DRIVER_NAMES.values()]}) == 2 * len(DRIVER_NAMES)


@pytest.mark.parametrize(
    "text, said",
    [
        ("H100:16", "Modal gives 1 to 8 H100 to a container, not 16"),
        ("H100:9", "1 to 8"),
        ("A10:8", "1 to 4 A10"),
        ("any:1", "any is no model"),
        ("H10:8", "Modal has no GPU 'H10'; did you mean"),
        ("a100:8", "Modal has no GPU 'a100'; did you mean A100-80GB:8 or A100-40GB:8?"),
        ("MI300X:8", "Modal has no GPU 'MI300X'"),
        ("H100!!:8", "Modal has no GPU"),
        ("!:8", "Modal has no GPU"),
        ("H100:0", "0 GPUs cannot be had"),
        ("H100:-1", "names no GPUs"),
        ("H100:8.0", "names no GPUs"),
        (":8", "names no GPUs"),
        ("8", "names no model; write MODEL:8 as in H100:8 (except on Modal, any:8 will do)"),
    ],
)
def test_what_modal_does_not_have_is_refused(text, said):
    """Its client would send it, and the call would wait for ever: exit code 2, with the value and what there is."""
    with pytest.raises(UsageError) as refused:
        asked(text)
    assert refused.value.exit_code == USAGE
    assert said in str(refused.value) and text in str(refused.value) and "--gpus" in str(refused.value)


@given(st.text(max_size=12))
@example("²")  # a digit to isdigit, and none to int
def test_any_text_is_a_model_of_modal_or_refused(text):
    """Nothing but a model that exists, and a count that a container can have, is ever asked for."""
    try:
        gpus = asked(text)
    except UsageError:
        return
    assert gpus.kind in DRIVER_NAMES and 1 <= gpus.count <= 8
