"""How a figure or a word is written in a table. What is not known is a dash, never a zero."""

NOTHING = "-"


def milliseconds(value: float) -> str:
    return f"{value:.2f}ms"


def bits(value: float) -> str:
    return f"{value:.8f}"


def gain(value: float) -> str:
    return f"{value:+.8f}"


def seconds(value: float) -> str:
    return f"{value:.1f}s"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.3f}MB"


def whole(value: float) -> str:
    return f"{value:.0f}"


def signed(value: float) -> str:
    """
    >>> signed(12.4), signed(-0.2), signed(-130.0)
    ('+12', '0', '-130')
    """
    return "0" if round(value) == 0 else f"{value:+,.0f}"


def short_bits(value: float) -> str:
    return f"{value:.5f}"


def short_delta(value: float) -> str:
    return f"{value:+.5f}"


def stamped(text: str) -> str:
    """A BPB of a diagnostic run, so that it can be quoted as nothing else."""
    return f"{text} (diagnostic)"


def visible(text: str) -> str:
    """One line without anything that a terminal or a page would act on: such characters stand as their escapes.

    >>> print(visible("a\\nb\\x1b[2Jc\\u202ed"), visible("é ± 模型"))
    a\\nb\\x1b[2Jc\\u202ed é ± 模型
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
