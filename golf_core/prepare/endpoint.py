"""The hub's URL as messages show it. Neither numpy nor huggingface_hub here: the import of that fails where HF_ENDPOINT
is no URL."""

from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "https://huggingface.co"


def shown_endpoint(endpoint: str) -> str:
    """A hub's URL without a password that it may hold. Raises ValueError for what is no such URL."""
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # asking for these may raise
    except ValueError:
        known = False
    if not known:
        shown = endpoint.rpartition("@")[2]
        raise ValueError(f"HF_ENDPOINT={shown!r} is no URL of a hub, such as {DEFAULT_ENDPOINT}; unset it, or mend it")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
