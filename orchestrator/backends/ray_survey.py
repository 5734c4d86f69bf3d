"""`python -m orchestrator.backends.ray_survey`: a driver on the head that asks every live node what it has.

Prints one JSON object, survey.Survey. Each node is asked by tasks that are pinned to it and take no GPU, so that busy
nodes answer too. All of them share a deadline: a node that does not answer in time is a finding, not a wait.
"""

import argparse
import json
import logging
import os
import platform
import sys
import time
import typing
from collections.abc import Callable, Mapping

from orchestrator import node_look
from orchestrator.backends.private_ray import ROOT, import_ray
from orchestrator.placement import models_of
from orchestrator.survey import NodeFacts, Survey

DEADLINE_SECONDS = 60.0  # for the facts: a worker process must start, and its runtime_env be there
DATA_SECONDS = 900.0  # for the shards: all of them are read
CLOCK_TRIES = 3
HEAD_RESOURCE = "node:__internal_head__"
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set in a job, whose packages our tasks get by themselves
OURS = ("golf_core", "orchestrator")


def connect() -> typing.Any:
    """Ray of the cluster that this process runs on."""
    ray = import_ray()
    travels = {} if JOB_CONFIG in os.environ else {"runtime_env": {"py_modules": [str(ROOT / one) for one in OURS]}}
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR, **travels)
    return ray


def survey(
    ray: typing.Any, node_dir: str, data: str | None, tokenizer: str | None, vocab: int | None, seconds: float
) -> Survey:
    begin = time.monotonic()
    told = ray.nodes()
    live = {node["NodeID"]: node for node in told if node["Alive"]}
    free = ray._private.state.available_resources_per_node()
    facts: dict[str, dict[str, typing.Any]] = {
        node_id: _declared(node, free.get(node_id, {})) for node_id, node in live.items()
    }
    for node_id, answer in ask(ray, list(live), node_look.look, (node_dir,), seconds).items():
        facts[node_id] |= answer
    answered = [node_id for node_id in live if not facts[node_id].get("error")]
    for node_id, answer in clocks(ray, answered, seconds).items():
        facts[node_id] |= answer
    if data is not None:
        takers = Survey(ray="", python="", nodes=tuple(NodeFacts(**one) for one in facts.values())).takers()
        asked = [node.node_id for node in takers if node.answered]
        found = ask(ray, asked, node_look.look_at_data, (data, tokenizer, vocab), max(seconds, DATA_SECONDS))
        for node_id, answer in found.items():
            facts[node_id] |= {"data_error": answer["error"]} if "error" in answer else answer
    addresses = {node["NodeManagerAddress"] for node in live.values()}
    return Survey(
        ray=ray.__version__,
        python=platform.python_version(),
        nodes=tuple(NodeFacts(**one) for one in sorted(facts.values(), key=_order)),
        lost=tuple(sorted({_place(node) for node in told if node["NodeManagerAddress"] not in addresses})),
        seconds=round(time.monotonic() - begin, 3),
    )


def _order(facts: Mapping[str, typing.Any]) -> tuple[bool, str, str]:
    return not facts["is_head"], facts["hostname"], facts["node_id"]


def _place(node: Mapping[str, typing.Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _declared(node: Mapping[str, typing.Any], free: Mapping[str, float]) -> dict[str, typing.Any]:
    """What Ray itself knows of a node."""
    resources = node["Resources"]
    return {
        "node_id": node["NodeID"],
        "hostname": node["NodeManagerHostname"],
        "address": node["NodeManagerAddress"],
        "is_head": HEAD_RESOURCE in resources,
        "labels": dict(node["Labels"]),
        "models": tuple(sorted(models_of(node["Labels"], resources))),
        "declared_gpus": int(resources.get("GPU", 0)),
        "declared_cpus": float(resources.get("CPU", 0)),
        "free_gpus": int(free.get("GPU", 0)),
    }


def _on(ray: typing.Any, node_id: str) -> dict[str, typing.Any]:
    """Options of a task for that node and no other, which reserves nothing of it."""
    pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
    return {"num_cpus": 0, "num_gpus": 0, "max_retries": 0, "scheduling_strategy": pinned}


def ask(
    ray: typing.Any,
    node_ids: list[str],
    function: Callable[..., dict[str, typing.Any]],
    arguments: tuple[typing.Any, ...],
    seconds: float,
) -> dict[str, dict[str, typing.Any]]:
    """What the function gives on each node; {"error": ...} where it failed or was not back in time."""
    task = ray.remote(function)
    under_way = {task.options(**_on(ray, node_id)).remote(*arguments): node_id for node_id in node_ids}
    ready, late = ray.wait(list(under_way), num_returns=len(under_way), timeout=seconds) if under_way else ([], [])
    answers = {under_way[one]: _answer(ray, one) for one in ready}
    for one in late:
        answers[under_way[one]] = {"error": f"did not answer within {seconds:g} s"}
        ray.cancel(one, force=True)
    return answers


def _answer(ray: typing.Any, reference: typing.Any) -> dict[str, typing.Any]:
    try:
        return dict(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        return {"error": f"the look at it failed: {error.cause!r}"}
    except ray.exceptions.RayError as error:  # the node went, or could not set a worker up
        return {"error": " ".join(str(error).split())[:400]}


def now() -> dict[str, typing.Any]:
    return {"clock": time.time()}


def clocks(ray: typing.Any, node_ids: list[str], seconds: float) -> dict[str, dict[str, typing.Any]]:
    """The wall clock of each node against that of the head: by the quickest of a few questions, a node at a time."""
    found: dict[str, dict[str, typing.Any]] = {}
    until = time.monotonic() + seconds
    for node_id in node_ids:
        for _ in range(CLOCK_TRIES):
            begin, sent = time.monotonic(), time.time()
            answer = ask(ray, [node_id], now, (), max(0.0, until - begin))[node_id]
            trip = time.monotonic() - begin
            if "error" in answer:
                break
            told = {"clock_offset": round(answer["clock"] - sent - trip / 2, 4), "clock_error": round(trip / 2, 4)}
            found[node_id] = min(found.get(node_id, told), told, key=lambda one: one["clock_error"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.backends.ray_survey", description=__doc__)
    parser.add_argument("--node-dir", default="~/golf-node", help="where attempts would lie on each node")
    parser.add_argument("--data", help="folder of shards on the nodes, read and hashed there")
    parser.add_argument("--tokenizer")
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--seconds", type=float, default=DEADLINE_SECONDS, help="for a node to answer")
    args = parser.parse_args()
    ray = connect()
    try:
        found = survey(ray, args.node_dir, args.data, args.tokenizer, args.vocab, args.seconds)
    finally:
        ray.shutdown()
    print(json.dumps(found.to_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
