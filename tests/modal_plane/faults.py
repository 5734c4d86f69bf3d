"""Faults on demand, counted: which request of which RPC is lost, answered and lost, delayed or refused."""

from dataclasses import dataclass, field

from grpclib import Status


@dataclass
class Rule:
    rpc: str
    kind: str  # lose_request, lose_reply, cut, delay, refuse
    nth: int  # the first request it strikes, counted from 1 since the rule was made
    times: int
    caller: str  # client, container, any
    seconds: float = 0.0
    status: Status = Status.UNAVAILABLE
    message: str = ""
    seen: int = 0
    fired: int = 0


@dataclass
class Faults:
    """Rules are added from a test's thread and read by the server's; both are single operations on a list. A rule
    strikes requests that arrive after it was made: not a wait for outputs, inputs or lines that is under way.

    A client repeats a request that was lost, three times by default, and every repetition is counted here: with
    times=1 the client gets over it by itself, with times=4 the call of the user's code fails.
    """

    rules: list[Rule] = field(default_factory=list)

    def lose_request(self, rpc: str, nth: int = 1, times: int = 1, caller: str = "any") -> Rule:
        """The server never sees it; the caller sees its stream reset."""
        return self._add(Rule(rpc, "lose_request", nth, times, caller))

    def lose_reply(self, rpc: str, nth: int = 1, times: int = 1, caller: str = "any") -> Rule:
        """The server has done it; the caller sees its stream reset."""
        return self._add(Rule(rpc, "lose_reply", nth, times, caller))

    def cut(self, rpc: str, nth: int = 1, times: int = 1, caller: str = "any") -> Rule:
        """The server has done it; the whole connection it came by is dropped, with all that else waits on it."""
        return self._add(Rule(rpc, "cut", nth, times, caller))

    def delay(self, rpc: str, seconds: float, nth: int = 1, times: int = 1, caller: str = "any") -> Rule:
        """The server begins on it `seconds` later."""
        return self._add(Rule(rpc, "delay", nth, times, caller, seconds=seconds))

    def refuse(self, rpc: str, status: Status, message: str, nth: int = 1, times: int = 1, caller: str = "any") -> Rule:
        """The server answers with this status (RESOURCE_EXHAUSTED, UNAVAILABLE, ...)."""
        return self._add(Rule(rpc, "refuse", nth, times, caller, status=status, message=message))

    def strike(self, rpc: str, caller: str) -> list[Rule]:
        """The rules that strike this request, which is hereby counted."""
        struck = []
        for rule in self.rules:
            if rule.rpc == rpc and rule.caller in ("any", caller):
                rule.seen += 1
                if rule.nth <= rule.seen < rule.nth + rule.times:
                    rule.fired += 1
                    struck.append(rule)
        return struck

    def _add(self, rule: Rule) -> Rule:
        self.rules.append(rule)
        return rule
