"""The page of studies: every study with its answer, and none lost over a damaged one."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report import write_index, write_report
from sweeplab.report.index import write_index as write_page

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.text = ""
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.targets += [str(value) for name, value in attrs if name == "href" and tag == "a"]

    def handle_data(self, data: str) -> None:
        self.text += "" if self.inside in ("script", "style") else f" {' '.join(data.split())}"


def read(path: Path) -> Links:
    page = Links()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_every_study_stands_with_its_answer_and_its_link(
    make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path
) -> None:
    for name in ("second", "a <first>"):
        facts = make_facts(name=name, question=f"Which of {name}?", seeds=[0, 1])
        losses = [(4, 0, 1.0), (4, 1, 1.01), (8, 0, 2.0), (8, 1, 2.02)]
        records = [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(losses)]
        write_report(facts, records, tmp_path / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "answer.json").write_text("{")
    (tmp_path / "benchmarks").mkdir()  # no study
    path = write_index(tmp_path)
    assert path == tmp_path / "index.html"
    page = read(path)
    assert page.targets == ["a%20%3Cfirst%3E/report.html", "second/report.html"]
    for text in ("Which of a <first>?", "Which of second?", "rank=4", "1.005 nats/target", "Not readable: broken."):
        assert text in page.text
    before = path.read_bytes()
    assert write_page(tmp_path).read_bytes() == before


def test_a_folder_without_studies_says_so(tmp_path: Path) -> None:
    assert "No study has a report here yet." in read(write_index(tmp_path)).text


@pytest.mark.parametrize("values", ["[]", '{"version": 1}', "null", '{"version": 99}'])
def test_what_is_no_answer_is_named(tmp_path: Path, values: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "answer.json").write_text(values)
    (tmp_path / "x" / "records.json").write_text("{}")
    assert "Not readable: x." in read(write_index(tmp_path)).text
