"""The page in a real headless browser: nothing is fetched or complained of; it can be read, reached and printed."""

import pytest

from tests.results.report import browser
from tests.results.report.samples import page_of, submission, variants

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium or chrome is on the PATH")

# Computed colours of text and of what is behind it, as [r, g, b, a].
CONTRASTS = """
(() => {
  const rgb = text => { const c = document.createElement("canvas").getContext("2d"); c.fillStyle = text;
    c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(rgb(getComputedStyle(document.body).backgroundColor));
  return [...document.querySelectorAll("body *")].filter(one => one.getClientRects().length)
    .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .filter(one => one.tagName !== "SCRIPT" && one.tagName !== "STYLE")
    .map(one => { const style = getComputedStyle(one);
      const ink = light(rgb(one.namespaceURI.endsWith("svg") ? style.fill : style.color));
      return [(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), one.tagName, one.textContent]; })
    .sort((a, b) => a[0] - b[0]).slice(0, 3);
})()
"""


@pytest.fixture(scope="module")
def tab():
    with browser.started() as found:
        yield found


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    path = folder / "report.html"
    path.write_text(page_of(submission(folder / "runs")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    path = folder / "report.html"
    path.write_text(page_of(*variants(folder / "runs", 4)), encoding="utf-8")
    return path


@pytest.mark.parametrize("which", ["single", "several"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_loads_nothing_and_fits(tab, which, width, request):
    """No request but for the file, no error, warning or console line, the verdict is seen, and nothing is wider than
    the window."""
    path = request.getfixturevalue(which)
    tab.open(path, width=width)
    assert tab.requests == [path.as_uri()] and tab.complaints == []
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    assert "gates of policy demo pass" in tab.run("document.body.innerText") or which == "several"
    assert tab.run("document.querySelector('#verdict').checkVisibility()")
    wide = (
        "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().right > innerWidth).length"
    )
    assert tab.run(wide) == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out(tab, single, dark):
    """Every piece of text that is shown, in charts too, has a contrast of 4.5 to the paper in both schemes."""
    tab.open(single, dark=dark)
    paper = tab.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(22, 24, 27)" if dark else "rgb(255, 254, 250)")
    worst = tab.run(CONTRASTS)
    assert worst[0][0] >= 4.5, worst


def test_the_toggle_exchanges_the_colours_of_page_and_charts(tab, single):
    """By keyboard: Enter on the button makes the other scheme, and again the first, also in the drawings."""
    tab.open(single)
    look = "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('figure svg text')).fill]"
    light = tab.run(look)
    tab.run("document.getElementById('theme').focus()")
    tab.press("Enter")
    dark = tab.run(look)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert tab.run("document.getElementById('theme').textContent") == "Light colours"
    tab.press("Enter")
    assert tab.run(look) == light


def test_the_keyboard_reaches_everything(tab, single):
    """Tab goes first to the skip link, then to the toggle, and on to every table and every chart's data, and shows
    where it is; Enter opens the data."""
    tab.open(single)
    reached = []
    here = (
        "(() => { const a = document.activeElement; "
        "return a.id || a.getAttribute('href') || a.getAttribute('aria-label') || a.textContent; })()"
    )
    for _ in range(40):
        tab.press("Tab")
        reached.append(tab.run(here))
        if reached[-1] not in ("main",):
            assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none", reached[-1]
        if "Data of What the artifact" in reached[-1]:
            break
    assert reached[:2] == ["#main", "theme"]
    assert {"Gates of policy demo", "Every registered seed", "Data of Training loss"} <= set(reached)
    tab.press("Enter")
    assert tab.run("document.activeElement.parentElement.open")


def test_without_a_script_the_page_is_whole(tab, single):
    """Scripts turned off, the toggle that would do nothing is hidden and all else is there, dark where it is wanted."""
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(single, dark=True)
        assert tab.run("document.getElementById('theme').checkVisibility()") is False
        assert tab.run("document.querySelectorAll('figure svg').length") == 8
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


def test_it_prints(tab, single):
    """The print is a PDF of a few pages, in light colours whatever the screen has, without buttons."""
    tab.open(single, dark=True)
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF-") and 2 <= pdf.count(b"/Type /Page\n") <= 6
    tab.look(dark=True, media="print")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 254, 250)"
    assert tab.run("document.getElementById('theme').checkVisibility()") is False


def test_who_wants_no_motion_gets_none(tab, single):
    """With reduced motion nothing scrolls smoothly, and nothing is animated for anybody."""
    tab.open(single)
    feature = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    tab.call("Emulation.setEmulatedMedia", media="", features=feature)
    assert tab.run("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert tab.run("document.getAnimations().length") == 0
