"""`python -m orchestrator.backends.ray_survey`: a driver on the head that asks every live node what it has.

Prints one JSON object, survey.Survey. Each node is asked by tasks that are pinned to it and take no GPU, so that busy
nodes answer too. All of them share a deadline: a node that does not answer in time is a finding, not a wait.
"""

import argparse
import json
import platform
import sys
import time
import typing
from collections.abc import Callable, Mapping, Sequence

from orchestrator.backends.base import Unavailable
from orchestrator.backends.ray_nodes import Nodes, host_of
from orchestrator.cluster import node_look
from orchestrator.cluster.survey import NodeFacts, Survey
from orchestrator.errors import BACKEND
from orchestrator.hardware.placement import NodeView

DEADLINE_SECONDS = 60.0  # for the facts: a worker process must start, and its runtime_env be there
DATA_SECONDS = 900.0  # for the shards: all of them are read
CLOCK_TRIES = 3

Facts = dict[str, typing.Any]


def survey(
    nodes: Nodes, node_dir: str, data: str | None, tokenizer: str | None, vocab: int | None, seconds: float
) -> Survey:
    begin = time.monotonic()
    rows = {row["NodeID"]: row for row in nodes.ray.nodes()}
    facts = {view.node_id: declared(view, rows[view.node_id]) for view in nodes.views()}
    for node_id, answer in ask(nodes, list(facts), node_look.look, (node_dir,), seconds).items():
        facts[node_id] |= answer
    answered = [node_id for node_id in facts if not facts[node_id].get("error")]
    for node_id, answer in clocks(nodes, answered, seconds).items():
        facts[node_id] |= answer
    if data is not None:
        takers = Survey(ray="", python="", nodes=tuple(NodeFacts(**one) for one in facts.values())).takers()
        asked = [node.node_id for node in takers if node.answered]
        found = ask(nodes, asked, node_look.look_at_data, (data, tokenizer, vocab), max(seconds, DATA_SECONDS))
        for node_id, answer in found.items():
            facts[node_id] |= {"data_error": answer["error"]} if "error" in answer else answer
    return Survey(
        ray=nodes.ray.__version__,
        python=platform.python_version(),
        nodes=tuple(NodeFacts(**one) for one in sorted(facts.values(), key=_order)),
        lost=lost(rows.values(), facts),
        seconds=round(time.monotonic() - begin, 3),
    )


def _order(facts: Facts) -> tuple[bool, str, str]:
    return not facts["is_head"], facts["hostname"], facts["node_id"]


def declared(view: NodeView, row: Mapping[str, typing.Any]) -> Facts:
    """What Ray itself knows of a node."""
    return {
        "node_id": view.node_id,
        "hostname": view.host,
        "address": row["NodeManagerAddress"],
        "is_head": view.head,
        "labels": dict(row.get("Labels") or {}),
        "models": tuple(sorted(view.models)),
        "declared_gpus": view.gpus,
        "declared_cpus": view.cpus,
        "free_gpus": int(view.gpus_free),
    }


def lost(rows: typing.Iterable[Mapping[str, typing.Any]], live: Mapping[str, Facts]) -> tuple[str, ...]:
    """The nodes that Ray remembers and that are gone, where no living one has their place."""
    there = {(facts["hostname"], facts["address"]) for facts in live.values()}
    gone = {(host_of(row), row["NodeManagerAddress"]) for row in rows if row["NodeID"] not in live}
    return tuple(f"{name} ({address})" for name, address in sorted(gone - there))


def ask(
    nodes: Nodes,
    node_ids: Sequence[str],
    function: Callable[..., Facts],
    arguments: Sequence[typing.Any],
    seconds: float,
) -> dict[str, Facts]:
    """What the function gives on each node; {"error": ...} where it failed or was not back in time."""
    under_way = {nodes.task(node_id, function, *arguments): node_id for node_id in node_ids}
    if not under_way:
        return {}
    ready, late = nodes.ray.wait(list(under_way), num_returns=len(under_way), timeout=seconds)
    answers = {under_way[one]: _answer(nodes.ray, one) for one in ready}
    for one in late:
        answers[under_way[one]] = {"error": f"did not answer within {seconds:g} s"}
        nodes.ray.cancel(one, force=True)
    return answers


def _answer(ray: typing.Any, reference: typing.Any) -> Facts:
    try:
        return dict(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        return {"error": f"the look at it failed: {error.cause!r}"}
    except ray.exceptions.RayError as error:  # the node went, or could not set a worker up
        return {"error": " ".join(str(error).split())[:400]}


def now() -> Facts:
    return {"clock": time.time()}


def clocks(nodes: Nodes, node_ids: Sequence[str], seconds: float) -> dict[str, Facts]:
    """The wall clock of each node against that of the head: by the quickest of a few questions, a node at a time."""
    found: dict[str, Facts] = {}
    until = time.monotonic() + seconds
    for node_id in node_ids:
        for _ in range(CLOCK_TRIES):
            begin, sent = time.monotonic(), time.time()
            answer = ask(nodes, [node_id], now, (), max(0.0, until - begin))[node_id]
            trip = time.monotonic() - begin
            if "error" in answer:
                break
            told = {"clock_offset": round(answer["clock"] - sent - trip / 2, 4), "clock_error": round(trip / 2, 4)}
            found[node_id] = min(found.get(node_id, told), told, key=lambda one: one["clock_error"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.backends.ray_survey", description="ask every node")
    parser.add_argument("--node-dir", default="~/golf-node", help="where attempts would lie on each node")
    parser.add_argument("--data", help="folder of shards on the nodes, read and hashed there")
    parser.add_argument("--tokenizer")
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--seconds", type=float, default=DEADLINE_SECONDS, help="for a node to answer")
    args = parser.parse_args()
    try:
        nodes = Nodes()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return BACKEND
    try:
        found = survey(nodes, args.node_dir, args.data, args.tokenizer, args.vocab, args.seconds)
    finally:
        nodes.close()
    print(json.dumps(found.to_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
