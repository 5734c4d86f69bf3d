"""The draft of a submission whose seeds are not all done: what is there, what is pending. Never a submission."""

from results.untrusted import Folder, plain

DRAFT = "draft"  # the folder, and the key that marks its document
DRAFT_JSON = "draft.json"
BANNER = "DRAFT"


def pending_in(folder: Folder) -> str | None:
    """What a draft still waits for, in words; None for a folder that is no draft, whatever its files are called."""
    for name in (DRAFT_JSON, "submission.json"):
        if folder.has(name):
            facts = folder.document(name)
            if facts.get(DRAFT) is True or name == DRAFT_JSON:
                pending = facts.get("pending")
                seeds = ", ".join(plain(one, 20) for one in pending[:20]) if isinstance(pending, list) else "unknown"
                return f"pending seeds {seeds}" if seeds else "its seeds are done; pack it without --draft"
    if folder.has("README.md") and folder.text("README.md").lstrip("# ").startswith(BANNER):
        return f"its README.md begins with {BANNER}"
    return None
