"""The frontier's data and the policies' claims: what ships is sound, and what a user writes wrongly is told clearly."""

import dataclasses

import pytest

from golf_core.fields import ConfigError
from golf_core.frontier import frontier_names, load_frontier
from golf_core.policy import PRACTISED, WRITTEN, Claim, load_policy, policy_names

TEXT = """
as_of = 2026-06-01
text = "some text"
typical_sd = 0.001
bytes_per_token = { SP1024 = 2.44 }

[[row]]
pr = 7
name = "seven"
date = 2026-05-30
tokenizer = "SP1024"
source = "its logs"
scores = { 42 = 1.2, 7 = 1.3 }

[[row]]
name = "eight"
date = 2026-05-31
tokenizer = "SP1024"
source = "its README"
mean = 1.1
accepted = false
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", frontier_names())
def test_what_ships_loads_with_a_source_for_each_row(name):
    """Every row has a source and a tokenizer of known bytes per token; the best is accepted and has spread."""
    frontier = load_frontier(name)
    assert frontier.name == frontier.as_of == name
    assert all(row.source and row.tokenizer in frontier.bytes_per_token for row in frontier.rows)
    assert frontier.best.accepted and frontier.best.sample.sd > 0
    assert all(frontier.find(f"#{row.pr}") is row is frontier.find(str(row.pr)) for row in frontier.rows if row.pr)


def test_the_frontier_of_may_has_the_published_figures():
    """Best row 1.0565; per-seed values, their mean and sample sd where they were published; a summary as such."""
    frontier = load_frontier("2026-05-02")
    assert (frontier.best.pr, round(frontier.best.sample.mean, 4)) == (2135, 1.0565)
    seeds, row = dict(frontier.find("549").scores), frontier.find("549").sample
    assert seeds[2025] == 1.11888882
    assert (round(row.mean, 8), round(row.sd, 8)) == (1.11937967, 0.00058043)
    summary = frontier.find("#1855")
    assert not summary.scores and (summary.sample.n, summary.sample.sd) == (6, 0.000933)


@pytest.mark.parametrize(
    "tokenizer, bpb", [("SP1024", 0.002961), ("SP4096", 0.002173), ("SP8192", 0.001936), ("CaseOps", 0.002285)]
)
def test_a_margin_in_nats_is_another_in_bits_for_each_tokenizer(tokenizer, bpb):
    """0.005 nats per token over ln 2 and bytes per token gives BPB; the ratio leads to the tokenizer."""
    frontier = load_frontier("2026-05-02")
    ratio = frontier.bytes_per_token[tokenizer]
    assert 0.005 / (0.6931471805599453 * ratio) == pytest.approx(bpb, abs=6e-7)
    assert frontier.tokenizer_of(ratio * 1.0019) == tokenizer and frontier.tokenizer_of(ratio * 1.0021) is None


def test_the_first_baseline_was_scored_on_an_earlier_export():
    """Its bytes per token and its text's size are its own: they are no tokenizer's on the text of the other rows."""
    frontier = load_frontier("2026-05-02")
    row, later = frontier.find("NaiveBaseline"), frontier.find("1019")
    assert (row.bytes_per_token, later.bytes_per_token) == (2.4423, 2.43593) and row.text_bytes > 155_000_000
    assert later.text_bytes == frontier.text_bytes and frontier.tokenizer_of(row.bytes_per_token) is None
    assert set(frontier.ratios) - set(frontier.bytes_per_token) == {"SP1024 of NaiveBaseline"}
    assert row.bytes_per_token * 63_779_840 == pytest.approx(row.text_bytes, rel=1e-5)


@pytest.mark.parametrize("load", [load_frontier, load_policy])
@pytest.mark.parametrize("text", ["a=" + "[" * 50_000, "# " + "x" * (1 << 20)], ids=["nested", "large"])
def test_a_hostile_file_is_refused_in_a_line(tmp_path, load, text):
    """Nesting beyond what can be read, and more bytes than any such file needs: a ConfigError that names the file."""
    with pytest.raises(ConfigError, match=r"mine\.toml: (values are nested too deeply|more than 1,048,576 bytes)"):
        load(written(tmp_path, text))


def test_a_users_file_is_read(tmp_path):
    """Rows with seeds and rows with a mean only; the best is the best of the accepted ones."""
    frontier = load_frontier(written(tmp_path, TEXT))
    assert frontier.best.name == "seven" and frontier.find("eight").sample.sd is None
    assert frontier.best.scores == ((42, 1.2), (7, 1.3))


BROKEN = {
    "no TOML": ("as_of = 2026-06-01", "as_of = ", "mine.toml"),
    "an unknown key": ("typical_sd", "typical_std", "no typical_std; did you mean 'typical_sd'"),
    "an unknown key of a row": ("source", "sources", "row 1 .'seven'.: there is no sources"),
    "a key that is missing": ('source = "its README"\n', "", "row 2 .'eight'.: source is missing"),
    "another tokenizer": ('tokenizer = "SP1024"\nsource = "its l', 'tokenizer = "SP99"\nsource = "its l', "SP1024"),
    "a text for a number": ("42 = 1.2", '42 = "1.2"', "scores: 42='1.2' must be a finite number"),
    "NaN": ("42 = 1.2", "42 = nan", "finite"),
    "a seed that is none": ("42 = 1.2", "best = 1.2", "'best', which is no seed"),
    "scores and a mean": ("mean = 1.1", "mean = 1.1\nvalues = [1.1]", "not values and mean"),
    "neither": ("mean = 1.1", "", "not none"),
    "n beside scores": ("pr = 7", "pr = 7\nn = 2", "n follow from scores"),
    "sd of one": ("mean = 1.1", "mean = 1.1\nsd = 0.1", "give n as well"),
    "a negative sd": ("mean = 1.1", "mean = 1.1\nsd = -0.1\nn = 3", "not negative"),
    "a number twice": ("accepted = false", "pr = 7", "two rows have pr = 7"),
    "nothing accepted": ("pr = 7", "accepted = false", "no row is accepted"),
    "a date that is none": ("2026-05-31", '"yesterday"', "date='yesterday' must be a date"),
    "bytes that are none": ("2.44", "0.0", "SP1024 must be above 0"),
    "bytes of a row that are none": ("mean = 1.1", "mean = 1.1\nbytes_per_token = 0", "row 2 .* must be above 0"),
}


@pytest.mark.parametrize("old, new, words", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_with_its_place(tmp_path, old, new, words):
    """A ConfigError that names the file and what is wrong in it."""
    assert old in TEXT
    with pytest.raises(ConfigError, match=words) as error:
        load_frontier(written(tmp_path, TEXT.replace(old, new)))
    assert "mine.toml" in str(error.value)


def test_an_unknown_frontier_or_row_names_the_nearest():
    """The alternatives stand in the message."""
    with pytest.raises(ConfigError, match="did you mean '2026-05-02'"):
        load_frontier("2026-05-03")
    with pytest.raises(ConfigError, match="did you mean '#1493'"):
        load_frontier("2026-05-02").find("#1498")


def test_the_two_rules_of_the_race_ship():
    """The written one: 0.005 nats at p < 0.01. The practised one: p < 0.25, no margin. Demo and exploration: none."""
    rules = {name: load_policy(name).claim for name in policy_names()}
    assert (rules[WRITTEN].alpha, rules[WRITTEN].margin_nats) == (0.01, 0.005)
    assert (rules[PRACTISED].alpha, rules[PRACTISED].margin_nats) == (0.25, 0.0)
    assert rules["demo"] is rules["exploration"] is None
    assert all(load_frontier(rule.frontier).find(rule.against) for rule in rules.values() if rule)


def test_a_policy_without_a_claim_is_written_as_before_there_were_claims():
    """No new key: what was registered under it stays equal to it."""
    assert "claim" not in load_policy("demo").to_dict()
    assert load_policy(WRITTEN).to_dict()["claim"]["margin_nats"] == 0.005


@pytest.mark.parametrize(
    "claim, words",
    [
        ("claim = 0.01", "must be a table"),
        ("[claim]\nalpha = 0.01", "frontier"),
        ('[claim]\nalpha = 0.01\nfrontier = "x"\nmargin = 0.005', "did you mean 'margin_nats'"),
        ('[claim]\nalpha = "1 %"\nfrontier = "x"', "claim.alpha='1 %' must be float"),
        ('[claim]\nalpha = 0.5\nfrontier = "x"', "claim.alpha=0.5 must lie"),
        ('[claim]\nalpha = 0.01\nmargin_nats = -1.0\nfrontier = "x"', "claim.margin_nats=-1.0"),
    ],
)
def test_a_wrong_claim_in_a_users_policy_is_told(tmp_path, claim, words):
    """The file, the key and what would do."""
    caps = "artifact_bytes = 1\ntrain_seconds = 1\nevaluate_seconds = 1\nkill_after_seconds = 1\nseeds = 1\n"
    path = written(tmp_path, f'summary = "mine"\n{caps}{claim}\n')
    with pytest.raises(ConfigError, match=words) as error:
        load_policy(path)
    assert "mine.toml" in str(error.value)


def test_a_users_claim_is_read(tmp_path):
    """Any alpha and margin, against a named row; a file of rows is looked for beside the policy."""
    caps = {key: value for key, value in load_policy("demo").to_dict().items() if isinstance(value, (int, float))}
    lines = [*(f"{key} = {value}" for key, value in caps.items()), 'summary = "mine"', "[claim]", "alpha = 0.05"]
    path = written(tmp_path, "\n".join([*lines, 'against = "#1493"', 'frontier = "2026-05-02"']))
    expected = Claim(alpha=0.05, frontier="2026-05-02", against="#1493")
    assert dataclasses.replace(load_policy(path), claim=None).name == "mine" and load_policy(path).claim == expected
    mine = written(tmp_path, "\n".join([*lines, 'frontier = "rows/rows.toml"']))
    assert load_policy(mine).claim.frontier == str(tmp_path / "rows" / "rows.toml")
