"""The written files: safe, self-contained, the same each time, and there whatever happened to the trials."""

import json
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweeplab.records.record import Score, StudyFacts, TrialRecord
from sweeplab.report import write_report
from sweeplab.report.templating import escape_markdown, fence_code

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


EVIL = '</script><script>alert("1")</script> a|b <img src=x onerror=1>'


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


@pytest.fixture
def records(make_record: RecordFactory) -> list[TrialRecord]:
    scores = {"new": {"exact_match": Score(0.5, 0.05, 100)}}
    made = [
        make_record(n, {"adapter.rank": rank}, seed, 1.0 + n / 16, scores=scores)
        for n, (rank, seed) in enumerate((rank, seed) for rank in (4, 8) for seed in (0, 1))
    ]
    return [*made, make_record(4, {"adapter.rank": 16}, 0, None), make_record(5, {"adapter.rank": 16}, 1, 2.0)]


def test_pages_say_what_was_found(make_facts: FactsFactory, records: list[TrialRecord], tmp_path: Path) -> None:
    path = write_report(make_facts(seeds=[0, 1]), records, tmp_path)
    assert path == tmp_path / "report.html"
    page, twin = parsed(path), (tmp_path / "report.md").read_text(encoding="utf-8")
    finding = "rank=4 has the lowest held-out loss, 1.031 nats/target"
    for text in (finding, "Which rank is enough?", "python -m sweeplab +experiment=rank_sweep", "it broke", "1/2"):
        assert text in page.text
        assert text in twin
    assert "![Held-out loss against rank](score.svg)" in twin
    assert "| 4 | 1.031 ± 0.044" in twin


def test_page_is_one_file_that_needs_no_network(
    make_facts: FactsFactory, records: list[TrialRecord], tmp_path: Path
) -> None:
    path = write_report(make_facts(), records, tmp_path)
    page = parsed(path)
    assert path.stat().st_size < 100_000
    assert not [attributes for _, attributes in page.tags if attributes.get("src")]
    idents = [one["id"] for _, one in page.tags if one.get("id")]
    assert len(set(idents)) == len(idents)
    links = [str(one["href"]) for _, one in page.tags if one.get("href")]
    assert {one for one in links if not one.startswith("#")} == {"data:,"}
    assert {one[1:] for one in links if one.startswith("#")} <= set(idents)
    assert len(page.scripts) == 1


def test_names_and_reasons_stay_text(make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path) -> None:
    record = make_record(0, {"data.name": EVIL}, 0, 1.0, scores={EVIL: {"acc": Score(0.5, None, 1)}})
    failed = make_record(1, {"data.name": EVIL}, 1, None, reason=EVIL, provenance={EVIL: EVIL})
    facts = make_facts(name=EVIL, question=EVIL, command=EVIL, space={"data.name": {"choices": [EVIL]}})
    page = parsed(write_report(facts, [record, failed], tmp_path))
    assert len(page.scripts) == 1
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.text.count(EVIL) >= 6
    twin = (tmp_path / "report.md").read_text(encoding="utf-8")
    outside = twin.replace(f"```\n{EVIL}\n```", "")
    assert "<script" not in outside
    assert "<img" not in outside
    assert "a\\|b" in outside
    rows = [line.replace("\\|", "") for line in outside.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows if "failed" in line or "trial" in line.split("|")[1]} == {6, 9}
    assert "<script" not in (tmp_path / "score.svg").read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes_in_any_order(
    make_facts: FactsFactory, records: list[TrialRecord], tmp_path: Path
) -> None:
    write_report(make_facts(), records, tmp_path / "a")
    write_report(make_facts(), records[::-1], tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["answer.json", "records.json", "report.html", "report.md", "score.svg"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_report_can_be_rebuilt_from_its_records(
    make_facts: FactsFactory, records: list[TrialRecord], tmp_path: Path
) -> None:
    write_report(make_facts(), records, tmp_path)
    stored = json.loads((tmp_path / "records.json").read_text(encoding="utf-8"))
    assert stored["study"] == make_facts().to_dict()
    assert [TrialRecord.from_dict(values) for values in stored["records"]] == records


@pytest.mark.parametrize("num_failed", [0, 2])
def test_report_without_a_finished_trial(
    make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path, num_failed: int
) -> None:
    (tmp_path / "score.svg").write_text("of an earlier report")
    failed = [make_record(n, {"adapter.rank": 4}, n, None, phases={}) for n in range(num_failed)]
    page = parsed(write_report(make_facts(), failed, tmp_path))
    assert page.text.count("it broke") == num_failed + 2 * bool(num_failed)  # each, all, and the answer
    assert not (tmp_path / "score.svg").exists()
    assert "score.svg" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_markdown_escapes_what_github_would_read() -> None:
    assert escape_markdown("a|b <c> *d* `e` _f_ g_h $i$ [j]") == (
        "a\\|b &lt;c&gt; \\*d\\* \\`e\\` \\_f\\_ g_h \\$i\\$ \\[j\\]"
    )
    assert escape_markdown("two\nlines") == "two lines"
    assert fence_code("x ``` y") == "````\nx ``` y\n````"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import sweeplab.report.pages", ["torch", "transformers", "lightning"]),
        (
            "import sweeplab.report, sweeplab.report.evidence.settings, sweeplab.report.findings.settings_table",
            ["torch", "jinja2"],
        ),
    ],
)
def test_imports_stay_light(code: str, absent: list[str]) -> None:
    shown = f"import sys; {code}; print([name for name in {absent!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
