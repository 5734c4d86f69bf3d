"""Python newer than ours: the tree is that of the same code in older words, with the lines of the text."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.source import Limits, SourceError
from results.audit.source.syntax import parse


def tree(text, tolerant=True):
    return parse(text, "train_gpt.py", Limits(), tolerant)


# newer, older: the trees are equal but for lines and columns
PAIRS = {
    "quotes in a field": ('x = f"{a["k"]} and {b}"', "x = f\"{a['k']} and {b}\""),
    "a nested f-string": ('x = f"{f"{y}"}"', "x = f\"{f'{y}'}\""),
    "a backslash in a field": (
        'x = f"{sep.join(["\\n"])}"',
        "n = None",
    ),
    "a format in a field": ('x = f"{a["k"]:>{w["n"]}.3f}"', "x = f\"{a['k']:>{w['n']}.3f}\""),
    "a conversion": ('x = f"{a["k"]!r}"', "x = f\"{a['k']!r}\""),
    "a raw one": ('x = rf"\\d{a["k"]}"', "x = rf\"\\d{a['k']}\""),
    "concatenated": ('x = "u" f"{a["k"]}" "v"', 'x = "u" f"{a[\'k\']}" "v"'),
    "type alias": ("type A[T] = list[T]", "A = list[T]"),
    "a generic function": ("def f[T: int, *Ts, **P](x: T) -> T: return x", "def f(x: T) -> T: return x"),
    "a generic class": ("class A[T](B): pass", "class A(B): pass"),
    "a generic class alone": ("class A[T]: pass", "class A: pass"),
    "defaults of parameters": ("class A[T = int]: pass", "class A: pass"),
    "except without parentheses": ("try: f()\nexcept A, B: pass", "try: f()\nexcept (A, B): pass"),
    "template string": ('x = t"{a} b"', 'x = f"{a} b"'),
}


@pytest.mark.parametrize("newer, older", PAIRS.values(), ids=PAIRS.keys())
def test_newer_syntax_has_the_tree_of_older(newer, older):
    """The same dump, and no note that anything was left out."""
    found, notes = tree(newer)
    assert notes == []
    if older != "n = None":
        assert ast.dump(found) == ast.dump(ast.parse(older))


def test_lines_are_kept_around_fields_of_several_lines():
    """What follows a field with lines of its own stands where it stood."""
    text = 'a = f"{\n  x["k"]\n}"\nb = f"""{\n y["k"]  # why\n} z"""\n'
    text += "def g[T,\n U](p):\n    return 1\ntype X[T,\n V] = int\nc = 1\n"
    found, notes = tree(text)
    assert notes == []
    assert [(one.lineno, type(one).__name__) for one in found.body] == [
        (1, "Assign"),
        (4, "Assign"),
        (7, "FunctionDef"),
        (10, "Assign"),
        (12, "Assign"),
    ]
    fields = [node for node in ast.walk(found) if isinstance(node, ast.Subscript)]
    assert sorted(node.lineno for node in fields) == [2, 5]


FIELDS = st.recursive(
    st.sampled_from(["a", "b.c", "d['k']", 'd["k"]', "f(1, 'x')", '"s"', "x if y else z"]),
    lambda inner: (
        st.builds('f"{{{0}}} t {{{1}!r}}"'.format, inner, inner)
        | st.builds("f'''{{{0}:>{{w}}}}'''".format, inner)
        | st.builds("g({0}, {1})".format, inner, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=4))
def test_nests_of_fields_parse_whole(fields):
    """Nothing is left out of any nest, every name in it is in the tree, and each statement has its line."""
    text = "".join(f'v{n} = f"{{{one}}}"\n' for n, one in enumerate(fields))
    found, notes = tree(text)
    assert notes == []
    assert [one.lineno for one in found.body] == list(range(1, len(fields) + 1))
    names = {node.id for node in ast.walk(found) if isinstance(node, ast.Name)}
    assert not any("golf_audit" in name for name in names)
    for n, one in enumerate(fields):
        assert ("d[" in one) <= any(isinstance(node, ast.Subscript) for node in ast.walk(found.body[n]))


def test_a_statement_that_no_python_parses_is_left_out_and_noted():
    """The rest is analysed; the note names the lines."""
    found, notes = tree("x = 1\ndef f():\n    print 'old'\n    return 2\n\n\ny = = 3\nz = 4\n")
    assert [getattr(one, "lineno", 0) for one in found.body][-1] == 8
    assert len(notes) == 2 and "lines 3 to 3" in notes[0] and "lines 7 to 7" in notes[1]
    assert any(isinstance(node, ast.Return) for node in ast.walk(found))


@pytest.mark.parametrize("text", ["# Title\n\nSome 'prose' that is no code.\n" * 60, "x = = 1\n" * 100])
def test_what_is_no_python_at_all_is_refused(text):
    """Rather than to analyse what little is left."""
    with pytest.raises(SourceError, match="is no Python"):
        tree(text)
