"""What an app is deployed with: told through one variable without a loss, and by its name apart from other options."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cloud.gpus import DRIVER_NAMES, MOST, CloudGpus
from orchestrator.cloud.options import (
    APP,
    BESIDE_SECONDS,
    DEFAULT_ATTEMPT_SECONDS,
    MAX_TIMEOUT,
    VARIABLE,
    AppOptions,
    timeout_of,
)
from orchestrator.errors import USAGE, UsageError

GPUS = [CloudGpus(kind, count).asked for kind in DRIVER_NAMES for count in range(1, MOST.get(kind, 8) + 1)]
PACKAGES = st.lists(st.sampled_from(["a==1", "b==2", "c @ https://x/c-1-py3-none-any.whl"]), max_size=2).map(tuple)
OPTIONS = st.builds(
    AppOptions,
    gpu=st.none() | st.sampled_from(GPUS),
    timeout_s=st.just(AppOptions().timeout_s) | st.integers(1, MAX_TIMEOUT),
    packages=PACKAGES,
    secret=st.none() | st.sampled_from(["golf", "a==1", "b==2"]),
)


@given(OPTIONS)
def test_options_reach_the_file_of_the_app_whole(options):
    """Through JSON in one variable; the same options are always the same text, whose digest tells what is deployed."""
    text = options.to_json()
    assert AppOptions.from_environment({VARIABLE: text}) == options
    assert AppOptions.from_environment({VARIABLE: text}).to_json() == text
    assert "\n" not in text


@given(OPTIONS, OPTIONS)
def test_other_options_are_another_app(one, other):
    """So that both can be deployed at once; a name is one that Modal takes."""
    assert (one.name == other.name) == (one == other)
    assert re.fullmatch(r"[a-z0-9-]{1,63}", one.name) and one.name.startswith(APP)


def test_without_the_variable_it_is_a_record():
    """`modal deploy jobs/train.py` alone deploys what a record attempt needs."""
    for environ in ({}, {VARIABLE: ""}):
        options = AppOptions.from_environment(environ)
        assert (options.name, options.gpu, options.gpus) == (APP, "H100!:8", 8)
        assert options.timeout_s == timeout_of(DEFAULT_ATTEMPT_SECONDS) > DEFAULT_ATTEMPT_SECONDS


@given(OPTIONS)
def test_every_container_has_cores_and_memory(options):
    """As many for each GPU, and some where there is none: what it costs is reckoned from these."""
    each = max(1, options.gpus)
    assert options.cores >= each and options.memory_mib >= 1024 * each and isinstance(options.memory_mib, int)


@pytest.mark.parametrize("seconds", [MAX_TIMEOUT + 1, 10**9, 0, -1])
def test_a_call_of_more_than_a_day_is_refused(seconds):
    """Modal would cut it off, or take the number and fail later: exit code 2, with both numbers."""
    with pytest.raises(UsageError, match="86,400 s at most") as refused:
        AppOptions(timeout_s=seconds)
    assert refused.value.exit_code == USAGE and f"{seconds:,}" in str(refused.value)


@given(st.floats(1, 10**6))
def test_a_call_outlasts_its_attempt(attempt_s):
    """The attempt's own last deadline comes first, with time to keep its files; a day is a day with that."""
    assert timeout_of(attempt_s) >= attempt_s + BESIDE_SECONDS
    if timeout_of(attempt_s) <= MAX_TIMEOUT:
        assert AppOptions(timeout_s=timeout_of(attempt_s)).timeout_s == timeout_of(attempt_s)


RECORD = {"gpu": "H100!:8", "timeout_s": 3600, "packages": [], "secret": None}


@pytest.mark.parametrize(
    "told",
    [
        [],
        "x",
        {},
        {"gpu": None},
        RECORD | {"colour": "red"},
        RECORD | {"timeout_s": "3600"},
        RECORD | {"timeout_s": 3600.5},
        RECORD | {"timeout_s": True},
        RECORD | {"packages": None},
        RECORD | {"packages": "a==1"},
        RECORD | {"packages": [1]},
        RECORD | {"gpu": 8},
        RECORD | {"gpu": "H100"},
        RECORD | {"gpu": "H100!:"},
        RECORD | {"gpu": "H100!:16"},
        RECORD | {"gpu": ""},
        RECORD | {"secret": 1},
        RECORD | {"secret": ""},
    ],
)
def test_a_variable_that_holds_no_options_is_refused(told):
    """Whoever sets it by hand is told its name, before anything is deployed."""
    with pytest.raises(UsageError, match=f"{VARIABLE} holds no options of an app"):
        AppOptions.from_environment({VARIABLE: json.dumps(told)})


def test_a_variable_that_is_no_json_is_refused():
    """It is named."""
    with pytest.raises(UsageError, match=VARIABLE):
        AppOptions.from_environment({VARIABLE: "H100:8"})
