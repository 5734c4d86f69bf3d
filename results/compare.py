"""Two sides held against each other under the rules of several policies: numbers first, then text.

Every output has the written and the practised rule of the race by name, and the chosen one, whatever was chosen.
"""

import typing
from collections.abc import Callable
from dataclasses import dataclass, replace

from golf_core.frontier import BEST, SAME_RATIO, Frontier, FrontierRow, load_frontier
from golf_core.policy import PRACTISED, WRITTEN, Claim, load_policy
from golf_core.significance import Design, NotTestable, Welch, seeds_needed, welch
from results.claims import Judged, Scored, bpb_of, judge, nats_of, other_text, text_doubt
from results.dataset import has_fineweb_bytes, same_text
from results.gates import FAIL, PASS, UNKNOWN
from results.sequential import Look, look
from results.sides import Side, as_json

EVEN, LIKELY = 0.5, 0.8  # powers that are told: even odds, and what is asked of a plan by custom
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule applied, and what these seeds could have shown under it. Gaps are differences of the means, in BPB, with
    the demanded margin in them; both sample standard deviations are taken for the true ones."""

    judged: Judged
    demanded: float | None = None  # margin in BPB that a claim must pass: the larger one where the tokenizers differ
    power: float | None = None  # for the gap that was seen, were it the true one
    shown_even: float | None = None
    shown_likely: float | None = None
    seeds_against: int | None = None  # of ours for the gap seen at 80 %, theirs as they stand; None: no number
    seeds_each: int | None = None  # on both sides, likewise
    seen: float | None = None  # gap beyond the margin; negative: none
    error_rate: float | None = None  # how often it claims what is not so: Welch's test keeps alpha nearly, not exactly
    look: Look | None = None

    def to_dict(self) -> dict[str, typing.Any]:
        return self.judged.to_dict() | {
            "demanded_margin_bpb": self.demanded,
            "gap_beyond_margin_bpb": self.seen,
            "error_rate": self.error_rate,
            "power_for_gap_seen": self.power,
            "shown_with_even_odds_bpb": self.shown_even,
            "shown_with_80_percent_bpb": self.shown_likely,
            "seeds_needed_against_theirs": self.seeds_against,
            "seeds_needed_on_each_side": self.seeds_each,
            "look": None if self.look is None else self.look.to_dict(),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    ours: Side
    theirs: Side
    rules: tuple[Rule, ...]  # the chosen one first
    test: Welch | None  # without a margin
    no_test: str  # why there is none
    notes: tuple[str, ...]

    @property
    def ratio(self) -> float | None:
        """Bytes per token that turn BPB into nats: ours; never theirs under another tokenizer."""
        return self.ours.scored.bytes_per_token

    @property
    def difference(self) -> float:
        return self.ours.scored.sample.mean - self.theirs.scored.sample.mean

    @property
    def interim(self) -> bool:
        """Registered seeds are missing: p is that of a look on the way, no result."""
        return bool(self.ours.missing or self.theirs.missing)

    @property
    def verdict(self) -> str:
        return self.rules[0].judged.verdict

    def to_dict(self) -> dict[str, typing.Any]:
        test, ratio = self.test, self.ratio
        return {
            "schema_version": SCHEMA_VERSION,
            "ours": as_json(self.ours),
            "theirs": as_json(self.theirs),
            "difference_bpb": self.difference,
            "difference_nats": None if ratio is None else nats_of(self.difference, ratio),
            "difference_t95_half_width": None if test is None else test.half_width,
            "t": None if test is None else test.t,
            "df": None if test is None else test.df,
            "p": None if test is None else test.p,
            "no_test": self.no_test or None,
            "policy": self.rules[0].judged.policy,
            "verdict": self.verdict,
            "rules": [rule.to_dict() for rule in self.rules],
            "interim": self.interim,
            "notes": list(self.notes),
        }


def rules_of(chosen: tuple[str, Claim, int]) -> list[tuple[str, Claim, int]]:
    """(policy, claim, seeds it asks for): the chosen one, then the written and the practised rule of the race."""
    found = [chosen]
    for name in (WRITTEN, PRACTISED):
        policy = load_policy(name)
        if name != chosen[0] and policy.claim is not None:
            found.append((name, policy.claim, policy.seeds))
    return found


def compare(ours: Side, theirs: Side, chosen: tuple[str, Claim, int], frontier: Frontier) -> Comparison:
    """`frontier` is that of their row, and knows a typical spread."""
    ours, theirs = _told_apart(ours, theirs)
    if doubt := _doubt(ours, theirs, frontier):
        ours = replace(ours, scored=replace(ours.scored, obstacle=ours.scored.obstacle or doubt))
    test, no_test = None, ""
    try:
        test = welch(ours.scored.sample, theirs.scored.sample)
    except NotTestable as error:
        no_test = str(error)
    rules = tuple(_rule(ours, theirs, *rule, frontier.typical_sd) for rule in rules_of(chosen))
    notes = [*ours.notes, *(note for note in theirs.notes if note not in ours.notes)]
    if test is not None and test.note:
        notes.insert(0, test.note)
    if ours.scores and sorted(ours.scores, key=str) == sorted(theirs.scores, key=str):
        notes.insert(0, "both sides hold the same scores of the same seeds: a thing is compared with itself")
    if theirs.row is None or theirs.row != _claimed_row(chosen[1]):
        notes.insert(
            0, f"the rules are applied to this pair; a claim under {chosen[0]} is against {_row_name(chosen[1])}"
        )
    if (
        ours.scored.bytes_per_token is None
        and not ours.registered
        and any(one.judged.margin_bpb is None for one in rules)
    ):
        notes.insert(0, "give --bytes-per-token for the margin in BPB: a number, or a tokenizer such as SP8192")
    found = Comparison(ours=ours, theirs=theirs, rules=rules, test=test, no_test=no_test, notes=())
    if _two_tokenizers(ours.scored, theirs.scored):
        notes.insert(
            0,
            "the tokenizers differ: BPB compare, nats per token do not. All nats here are of our tokens; for theirs a "
            "margin in nats would be another in BPB, and no claim passes that would not pass under both; power and "
            "seeds needed are told for the larger",
        )
    return replace(found, notes=tuple(notes))


def _told_apart(ours: Side, theirs: Side) -> tuple[Side, Side]:
    """Scripts with what tells them apart: of two of them, what differs in text and environment; of one, all of it."""

    def named(one: Side, other: Side) -> Side:
        return replace(one, what=" ".join([one.what, *(word for word in one.script if word not in other.script)]))

    return named(ours, theirs), named(theirs, ours)


def _doubt(ours: Side, theirs: Side, frontier: Frontier) -> str:
    """Why the two are not known to be of one text. Numbers that somebody typed are taken at their word, unless a
    submission, whose data is known, is held against them."""
    if same_text(ours.scored.text, theirs.scored.text):
        return ""
    sides = (ours, theirs)
    if any(side.row is not None for side in sides):
        told = [one.scored for one in sides if one.row is None and (one.scored.bytes_per_token or one.registered)]
        return next((doubt for one in told if (doubt := text_doubt(one, frontier))), "")
    if not any(side.registered for side in sides) or all(_is_fineweb(side, frontier) for side in sides):
        return ""
    return f"nothing shows that {ours.what} and {theirs.what} are scored on the same text"


def _is_fineweb(side: Side, frontier: Frontier) -> bool:
    """Whether it is shown, by its size or by its bytes per token under a known tokenizer."""
    size, ratio = side.scored.text.length, side.scored.bytes_per_token
    return has_fineweb_bytes(size) if size is not None else ratio is not None and not text_doubt(side.scored, frontier)


def _claimed_row(claim: Claim) -> FrontierRow:
    return load_frontier(claim.frontier).find(claim.against)


def _row_name(claim: Claim) -> str:
    best = "the best row, " if claim.against == BEST else ""
    return f"{best}{_claimed_row(claim).label}"


def _two_tokenizers(ours: Scored, theirs: Scored) -> bool:
    a, b = ours.bytes_per_token, theirs.bytes_per_token
    return a is not None and b is not None and abs(a / b - 1) >= SAME_RATIO


def _demanded(judged: Judged, ours: Scored, theirs: Scored) -> float | None:
    """The margin that decides: `judge` lets a claim pass only with it counted in the tokens of either."""
    if judged.margin_bpb is None or theirs.bytes_per_token is None or not _two_tokenizers(ours, theirs):
        return judged.margin_bpb
    return max(judged.margin_bpb, bpb_of(judged.claim.margin_nats, theirs.bytes_per_token))


def _rule(ours: Side, theirs: Side, name: str, claim: Claim, seeds: int, typical_sd: float) -> Rule:
    judged = judge(name, claim, seeds, ours.scored, theirs.scored)
    a, b, margin = ours.scored.sample, theirs.scored.sample, _demanded(judged, ours.scored, theirs.scored)
    at = _look(ours, theirs, claim, margin, typical_sd)
    if judged.test is None or margin is None or a.sd is None or b.sd is None:
        return Rule(judged=judged, demanded=margin, look=at)
    seen = b.mean - a.mean - margin
    design = Design(a.n, b.n, a.sd, b.sd, claim.alpha)
    return Rule(
        judged=judged,
        demanded=margin,
        seen=seen,
        error_rate=design.power(0.0),
        power=design.power(seen) if seen > 0 else None,
        shown_even=margin + design.gap(EVEN),
        shown_likely=margin + design.gap(LIKELY),
        seeds_against=seeds_needed(seen, a.sd, b.sd, claim.alpha, LIKELY, theirs=b.n),
        seeds_each=seeds_needed(seen, a.sd, b.sd, claim.alpha, LIKELY),
        look=at,
    )


def _look(ours: Side, theirs: Side, claim: Claim, margin: float | None, typical_sd: float) -> Look | None:
    """Only of a submission whose registered seeds are not all in but still may be, against a side that is."""
    if not ours.missing or theirs.missing or ours.lost or margin is None:
        return None
    if other_text(ours.scored, theirs.scored):
        return None
    try:
        scores, seeds = [score for _, score in ours.scores], [seed for seed, _ in ours.scores]
        first = next((n for n, seed in enumerate(seeds) if seed != ours.registered[n]), len(seeds))
        planned = len(ours.registered)
        return look(scores, planned, theirs.scored.sample, claim.alpha, margin, typical_sd, in_order=first)
    except NotTestable:
        return None


Cells = list[list[str]]


def side_cells(found: Comparison) -> Cells:
    """Ours, theirs and the difference, a quantity a row, both units."""
    a, b = found.ours.scored, found.theirs.scored
    rows = [
        ["", "ours", "theirs", "ours - theirs"],
        ["seeds", _seeds(found.ours), _seeds(found.theirs), ""],
        ["mean, BPB", f"{a.sample.mean:.8f}", f"{b.sample.mean:.8f}", f"{found.difference:+.8f}"],
        ["sample sd, BPB", _shown(a.sample.sd, ".8f"), _shown(b.sample.sd, ".8f"), ""],
        [
            "95 % t interval, ±",
            _shown(a.sample.half_width, ".8f"),
            _shown(b.sample.half_width, ".8f"),
            _shown(None if found.test is None else found.test.half_width, ".8f"),
        ],
    ]
    ratio = found.ratio  # of both sides, so that the row adds up
    nats = [None if ratio is None else nats_of(x, ratio) for x in (a.sample.mean, b.sample.mean, found.difference)]
    name = "mean, nats/token of ours" if _two_tokenizers(a, b) else "mean, nats/token"
    rows.append([name, *(_shown(x, ".6f") for x in nats[:2]), _shown(nats[2], "+.6f")])
    rows.append(["bytes per token", _shown(a.bytes_per_token, ".4f"), _shown(b.bytes_per_token, ".4f"), ""])
    return rows


def _seeds(side: Side) -> str:
    n = side.scored.sample.n
    return f"{n} of {len(side.registered)}" if side.missing else str(n)


def rule_cells(found: Comparison) -> Cells:
    """A rule a column, the chosen one first, a quantity a row."""
    rules, ratio = found.rules, found.ratio

    def row(name: str, of: Callable[[Rule], str]) -> list[str]:
        return [name, *(of(rule) for rule in rules)]

    def both(get: Callable[[Rule], float | None]) -> Callable[[Rule], str]:
        return lambda rule: _both(get(rule), ratio)

    first, *others = (rule.judged.policy for rule in rules)
    rows = [
        ["", f"{first} (chosen)", *others],
        row("a claim needs", lambda rule: f"p < {rule.judged.claim.alpha:g}"),
        row("for better by more than", _margin),
        row("t", lambda rule: _shown(getattr(rule.judged.test, "t", None), ".3f")),
        row("df", lambda rule: _shown(getattr(rule.judged.test, "df", None), ".3f")),
        row(
            "p of an interim look" if found.interim else "p",
            lambda rule: _shown(getattr(rule.judged.test, "p", None), ".4g"),
        ),
        row("verdict", lambda rule: rule.judged.verdict),
    ]
    if any(rule.shown_even is not None for rule in rules):
        rows += [
            row("these seeds show, 50 %", both(lambda rule: rule.shown_even)),
            row("these seeds show, 80 %", both(lambda rule: rule.shown_likely)),
            row("its real error rate", lambda rule: _shown(rule.error_rate, ".4f")),
            row("power for the gap seen", lambda rule: _share(rule.power)),
            row("seeds needed against theirs", lambda rule: _needed(rule, rule.seeds_against)),
            row("seeds needed on each side", lambda rule: _needed(rule, rule.seeds_each)),
        ]
    if any(rule.look is not None for rule in rules):
        rows += [
            row("p if success may stop it", lambda rule: _shown(getattr(rule.look, "p_early", None), ".4g")),
            row("chance of a claim at the end", lambda rule: _share(getattr(rule.look, "chance", None))),
            row("the same at a typical sd", lambda rule: _share(getattr(rule.look, "chance_typical", None))),
        ]
    return rows


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _share(value: float | None) -> str:
    """
    >>> _share(0.5149), _share(0.99996), _share(0.0004), _share(None)
    ('51 %', '> 99 %', '< 1 %', '-')
    """
    if value is None:
        return "-"
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def _both(value: float | None, ratio: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6f} BPB" + ("" if ratio is None else f", {nats_of(value, ratio):.5f} nats")


def _margin(rule: Rule) -> str:
    ours, nats = rule.judged.margin_bpb, rule.judged.claim.margin_nats
    if not nats:
        return "nothing"
    if ours is None or rule.demanded is None:
        return f"? BPB, {nats:g} nats"
    if rule.demanded == ours:
        return f"{ours:.6f} BPB, {nats:g} nats"
    return f"{ours:.6f} BPB, of theirs {rule.demanded:.6f}, {nats:g} nats"


def _needed(rule: Rule, seeds: int | None) -> str:
    if rule.seen is None:
        return "-"
    return "no gap seen" if rule.seen <= 0 else "no number will do" if seeds is None else str(seeds)


def sentences(found: Comparison) -> list[str]:
    """What the numbers mean, the chosen verdict first, and what a reader must know before believing them."""
    lines = [f"{rule.judged.policy}: {_verdict(rule.judged)}." for rule in found.rules]
    if found.no_test:
        lines.append(f"No test: {found.no_test}.")
    if any(rule.shown_even is not None for rule in found.rules):
        lines.append(
            "Power takes both sample sds for the true ones, which few seeds hardly know. 'These seeds show': the true "
            "difference that would be claimed with even odds and with 80 %, the margin in it. Seeds needed: for the "
            "gap seen, with 80 %."
        )
    if any(rule.look is not None for rule in found.rules):
        lines += _look_lines(found)
    return lines + [f"Note: {note}." for note in found.notes]


def _verdict(judged: Judged) -> str:
    word = {PASS: "met", FAIL: "not met", UNKNOWN: "unknown, which is never a pass"}[judged.verdict]
    return f"{word}: {judged.reason}"


def _look_lines(found: Comparison) -> list[str]:
    at = next(rule.look for rule in found.rules if rule.look is not None)
    lines = [
        f"Look after {at.done} of {at.planned} registered seeds. Its p is no result: run to the end, the final p needs "
        "no correction, however often one looks; to stop early for success, the p for that counts (each look has its "
        "share of alpha, by the union bound; planned looks are at the first seeds of the list, no gap). Giving up "
        "early needs no correction; the seeds that ran are still told.",
        "The chance draws mean and spread from what these seeds leave open"
        + (" (one seed leaves the spread wholly open)" if at.done < 2 else "")
        + f"; a typical sd is {at.typical_sd:g} BPB.",
    ]
    futile = [rule.judged.policy for rule in found.rules if rule.look is not None and rule.look.futile]
    if futile:
        lines.append(
            f"Futile under {' and '.join(futile)}: a claim has less than a 5 % chance; stop and save the rest."
        )
    return lines


def csv_rows(found: Comparison) -> list[dict[str, typing.Any]]:
    """A row a rule; what is of both sides stands in each."""
    told = found.to_dict()
    shared = {
        **{f"{who}_{key}": told[who][key] for who in ("ours", "theirs") for key in ("n", "mean_bpb", "sample_sd")},
        "difference_bpb": told["difference_bpb"],
        "difference_nats": told["difference_nats"],
        "interim": told["interim"],
    }
    looks = ("p_early", "chance", "chance_typical")
    return [
        {key: value for key, value in rule.to_dict().items() if key != "look"}
        | {key: getattr(rule.look, key, None) for key in looks}
        | shared
        for rule in found.rules
    ]
