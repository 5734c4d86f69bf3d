"""D11: what a gain is made of. Learning is turned off, and is given wrong targets: then the gain must vanish.

No rule is broken by a large gain; every illegal n-gram cache and SLOT that reached the challenge's tables gained more
than 0.1 bits a byte, legal learning a few thousandths. So a gain over 0.02, or a total under 0.9, is for a reviewer.
"""

import math

from results.audit.finding import PASS, REVIEW
from results.audit.probe.outcome import Outcome
from results.audit.probe.scorer import OFF, SHUFFLED
from results.audit.probe.subject import Subject

AUTHORITY = "audit D11; [R] A2"
LARGE_GAIN, LOW_TOTAL = 0.02, 0.9  # bits a byte
KEPT = 0.5  # of a gain that may be left with wrong targets: how often a token is, they tell too
SMALL_GAIN = 0.002  # bits a byte: below it nothing is asked of the shuffled control


def controls(subject: Subject, bytes_a_token: float | None) -> Outcome:
    """`bytes_a_token` turns nats into bits a byte; without it no limit is applied."""
    begin, targets = subject.score.runs, len(subject.tokens) - 1
    sums = {
        "on": float(subject.base.nll.sum()),
        "off": float(subject.ask(subject.tokens, OFF).nll.sum()),
        "shuffled": float(subject.ask(subject.tokens, SHUFFLED).nll.sum()),
    }
    runs = subject.score.runs - begin
    means = {name: value / targets for name, value in sums.items()}
    evidence: dict[str, object] = {f"nats_a_token_{name}": value for name, value in means.items()}
    gains = {name: means["off"] - means[name] for name in ("on", "shuffled")}
    told = "{on:.4f} nats a token, {off:.4f} without learning, {shuffled:.4f} with wrong targets".format(**means)
    if bytes_a_token is None:
        says = f"{told}; how many bytes a token has is not known (--bytes-per-token), so that no limit was applied"
        return Outcome("controls", "D11", REVIEW, AUTHORITY, says, runs, evidence)
    bits = {name: value / math.log(2) / bytes_a_token for name, value in means.items()}
    gain, wrong = ((bits["off"] - bits[name]) for name in gains)
    evidence |= {"bpb": bits["on"], "gain_bpb": gain, "gain_bpb_shuffled": wrong, "bytes_a_token": bytes_a_token}
    reasons = []
    if gain > LARGE_GAIN:
        reasons.append(f"a gain of {gain:.4f} BPB is over {LARGE_GAIN}")
    if bits["on"] < LOW_TOTAL:
        reasons.append(f"a total of {bits['on']:.4f} BPB is under {LOW_TOTAL}")
    if wrong > max(SMALL_GAIN, KEPT * gain):
        reasons.append(f"{wrong:.4f} BPB of the gain stay with wrong targets")
    says = f"{told}; gain {gain:+.4f} BPB, {wrong:+.4f} with wrong targets"
    if reasons:
        return Outcome("controls", "D11", REVIEW, AUTHORITY, f"{'; '.join(reasons)} ({told})", runs, evidence)
    return Outcome("controls", "D11", PASS, AUTHORITY, says, runs, evidence)
