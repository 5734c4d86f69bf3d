"""The strongest check: a folder that we packed, against the sealed attempts that it was packed from.

Every file is made again and compared to the byte; every claim is derived from the sealed figures, not from the log's
rounded ones; the gates are those of the collected submission.
"""

import typing
from collections.abc import Mapping
from dataclasses import asdict, replace

from results.audit.gates import audit_gates, records_of
from results.claims import claim_gates, claim_of
from results.collect import Collected
from results.gates import Gate, check_gates
from results.pack import other_version, verify
from results.untrusted import Folder, plain
from results.verify.check import Checked, judged, read_claims
from results.verify.finding import FAIL, PASS, UNKNOWN, Finding
from results.verify.gates import of_sealed
from results.verify.rival import Asked
from results.verify.seen import seen_in_rows

CONCLUSIONS = ("format_version", "gates", "headroom", "files")  # keys of ours that hold no figure of a run


def id_of_ours(facts: Mapping[str, typing.Any]) -> str | None:
    """The submission that a document says it was packed from, if it says so."""
    told = facts.get("submission_id")
    return told if isinstance(told, str) and len(told) == 64 and set(told) <= set("0123456789abcdef") else None


def _gates(found: Collected, policy: Mapping[str, typing.Any]) -> list[Gate]:
    return check_gates(found.rows, policy, found.spec.target_class, claim_gates(found.rows, policy))


def _policy(found: Collected, policy: Mapping[str, typing.Any] | None, asked: Asked) -> Mapping[str, typing.Any] | None:
    """With the row that was asked for, and with its name, so that nobody takes it for the policy as it ships."""
    base = found.spec.policy if policy is None else policy
    if asked == Asked() or (claim := claim_of(base)) is None:
        return policy
    other = replace(claim, frontier=asked.frontier or claim.frontier, against=asked.against or claim.against)
    name = f"{base.get('name')} against {other.against} of {other.frontier}"
    return {**base, "name": name, "claim": asdict(other)}


def check_sealed(
    folder: Folder, found: Collected, policy: Mapping[str, typing.Any] | None, asked: Asked | None = None
) -> Checked:
    """`policy` is another than the one that the submission was registered under, `asked` another row than its."""
    policy = _policy(found, policy, asked or Asked())
    read, older = read_claims(folder), other_version(folder)
    if older:  # what that version concluded is concluded anew, in this one's gates
        read.document.other = [one for one in read.document.other if one.partition(".")[0] not in CONCLUSIONS]
    findings, _, _ = judged(read, seen_in_rows(found.rows))
    differences = verify(found, folder)
    findings += [
        Finding(
            f"sealed: {plain(one.place, 60)}",
            plain(one.says, 40),
            plain(one.evidence, 40),
            found.spec.folder.name,
            FAIL,
            "not what the sealed attempts give",
        )
        for one in differences
    ]
    if not differences and not older:  # whatever stands in the files, the sealed attempts give it
        again = "made again to the byte"
        findings = [
            replace(one, verdict=PASS, why=again, source=one.source or found.spec.folder.name)
            if one.verdict == UNKNOWN
            else one
            for one in findings
        ]
        count = len(folder.files)
        told = f"{count} files"
        findings.append(Finding("files", told, told, found.spec.folder.name, PASS, "the same to the byte, made again"))
    gates = found.gates if policy is None else _gates(found, policy)
    records, notes = records_of(found)
    gates = [*gates, *audit_gates(found.rows, found.spec.policy if policy is None else policy, records)]
    sources = {row.seed: str(row.attempt_id) for row in found.rows if row.counted}
    name = found.spec.policy_name if policy is None else str(policy.get("name"))
    basis = f"the sealed attempts of {plain(found.spec.folder)}"
    return Checked(plain(folder.path), name, basis, findings, of_sealed(gates, sources), [older] * bool(older) + notes)
