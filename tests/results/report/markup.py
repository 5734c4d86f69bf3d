"""Reads a page strictly, as no browser does: every tag closed in order, ids unique, nothing fetched."""

import itertools
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "col", "img", "input", "link", "source"}
FETCHING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "cite", "ping", "manifest"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    text: list[str] = field(default_factory=list)
    inside: list["Element"] = field(default_factory=list)

    def all(self, *names: str) -> list["Element"]:
        """This and everything in it, of these names."""
        found = [self] if self.name in names else []
        return found + [one for child in self.inside for one in child.all(*names)]

    @property
    def words(self) -> str:
        return " ".join("".join([*self.text, *(f" {child.words}" for child in self.inside)]).split())


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, dict(attrs))
        if (name := element.attributes.get("id")) is not None:
            self.ids.append(name)
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].text.append(data)


def read(page: str) -> Element:
    """The page as a tree. Fails on what is not balanced, and on ids that are there twice."""
    assert page.startswith("<!doctype html>")
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root], f"<{reader.open[-1].name}> is never closed"
    twice = {name for name in reader.ids if reader.ids.count(name) > 1}
    assert not twice, f"ids that are there twice: {twice}"
    return reader.root


def problems(page: str) -> list[str]:
    """What a reader, a screen reader or a machine without network would stumble over."""
    root = read(page)
    ids = {one.attributes["id"] for one in everything(root) if "id" in one.attributes}
    found = []
    for one in everything(root):
        for key, value in one.attributes.items():
            if key in FETCHING or (key.endswith("href") and not (value or "").startswith("#")):
                found.append(f"<{one.name}> names {key}={value}")
            if key.startswith("on"):
                found.append(f"<{one.name}> runs {key}={value}")
            named = (value or "").split() if key in ("aria-labelledby", "aria-describedby") else []
            named += [value[1:]] if key.endswith("href") and value and value.startswith("#") else []
            found += [f"<{one.name}> points to #{name}, which is not there" for name in named if name not in ids]
    for one in root.all("svg", "img"):
        if not (one.attributes.get("aria-labelledby") or one.attributes.get("alt")):
            found.append(f"<{one.name}> has no text alternative")
    levels = [int(one.name[1]) for one in root.all("h1", "h2", "h3", "h4", "h5", "h6")]
    if levels[:1] != [1] or levels.count(1) != 1:
        found.append(f"headings begin with {levels[:3]}")
    found += [f"a heading of level {b} after {a}" for a, b in itertools.pairwise(levels) if b > a + 1]
    for url in re.findall(r"(?:https?:)?//[^\s\"'<>)]+", page):
        if url not in ALLOWED:
            found.append(f"names {url}")
    found += [f"imports {one}" for one in re.findall(r"@import|url\([^#)][^)]*\)", page)]
    return found


# Names of languages, which nobody fetches.
ALLOWED = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


def everything(element: Element) -> list[Element]:
    return [element] + [one for child in element.inside for one in everything(child)]
