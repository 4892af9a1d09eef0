"""The page in a browser: tables sort and filter, figures draw, nothing overflows, a thousand trials open at once."""

import base64
import csv
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from sweeplab.records.record import (
    BaseScore,
    HeldoutPoint,
    LargerBatch,
    Score,
    Status,
    StudyFacts,
    TrainPoint,
    TrialRecord,
)
from sweeplab.report import write_report

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

BROWSER: Final = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER: Final = shutil.which("chromedriver")
MAX_OPEN_SECONDS: Final = 3.0
MAX_BYTES: Final = 10_000_000
LOG: Final = {"browser": "ALL"}
BASE: Final = BaseScore("0" * 32, 2.5, {"new": {"acc": Score(0.05, 0.01, 200)}}, 1.0, {})

pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no chromium and chromedriver; apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        profile,
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", LOG)
    made = Chrome(options=options, service=Service(executable_path=DRIVER))
    yield made
    made.quit()


@pytest.fixture
def page(make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path) -> Path:
    """Ranks 4, 8 and 16 with two rates each; one trial failed, one went on with smaller batches."""
    records = []
    for n, (rank, rate) in enumerate((rank, rate) for rank in (4, 8, 16) for rate in (1e-3, 1e-2)):
        scores = {"new": {"acc": Score(n / 8, 0.05, 200)}}
        record = make_record(
            n, {"adapter.rank": rank, "optimizer.lr": rate}, scores=scores, adapter_bytes=10 ** (8 - n)
        )
        record.losses = [TrainPoint(10 * k, 3 / k, 1e-3) for k in (1, 2, 3)]
        records.append(record)
    records[2].larger_batches = [LargerBatch(16, 1, "CUDA out of memory")]
    records.append(make_record(6, {"adapter.rank": 4, "optimizer.lr": 1e-4}, 0, None, reason="it broke"))
    facts = make_facts(
        objectives={"scores.new.acc": "maximize"},
        space={"adapter.rank": {"choices": [4, 8, 16]}, "optimizer.lr": {"choices": [1e-4, 1e-3, 1e-2]}},
    )
    return write_report(facts, records, tmp_path, None, [BASE])


def opened(browser: Chrome, path: Path, width: int = 1200, **media: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(path.as_uri())


def head(table: WebElement, title: str) -> WebElement:
    return next(one for one in table.find_elements(By.TAG_NAME, "th") if title in one.text)


def column(table: WebElement, title: str) -> list[str]:
    """First lines of the shown cells below a title."""
    titles = [one.text for one in table.find_elements(By.TAG_NAME, "th")]
    place = next(place for place, text in enumerate(titles) if title in text)
    rows = [row for row in table.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed()]
    return [row.find_elements(By.TAG_NAME, "td")[place].text.splitlines()[0] for row in rows]


def test_tables_sort_by_size_and_say_so(browser: Chrome, page: Path) -> None:
    opened(browser, page)
    table = browser.find_element(By.TAG_NAME, "table")
    assert not any("adapter size" in one.text for one in table.find_elements(By.TAG_NAME, "th"))  # few ask for it
    browser.find_element(By.CSS_SELECTOR, ".tools .columns").click()
    title = head(table, "adapter size")
    button = title.find_element(By.TAG_NAME, "button")
    sizes = ["977 KiB", "9.54 MiB", "95.4 MiB"]
    button.click()
    assert title.get_attribute("aria-sort") == "ascending"
    assert [text for text in column(table, "adapter size") if text in sizes] == sizes
    button.send_keys(Keys.ENTER)
    assert title.get_attribute("aria-sort") == "descending"
    found = column(table, "adapter size")
    assert [text for text in found if text in sizes] == sizes[::-1]
    assert found[0] == found[-1] == "\u2013"  # the base stays on top, and what is missing is last
    assert column(table, "rank")[0] == "base model"
    head(table, "lr").find_element(By.TAG_NAME, "button").click()
    assert title.get_attribute("aria-sort") is None
    assert column(table, "lr")[1:] == ["0.0001", "0.001", "0.001", "0.001", "0.01", "0.01", "0.01"]
    assert complaints(browser) == []


def test_filters_leave_the_rows_that_have_every_word(browser: Chrome, page: Path) -> None:
    opened(browser, page)
    field = browser.find_elements(By.CSS_SELECTOR, ".filter input")[-1]
    table = browser.find_element(By.CSS_SELECTOR, ".trials table")
    for words, trials in [("failed", ["6"]), ("rank=4", ["0", "1", "6"]), ("rank=4 lr=0.01", ["1"]), ("rank=1", [])]:
        field.clear()
        field.send_keys(words)
        assert column(table, "trial") == trials, words
        said = browser.find_elements(By.CSS_SELECTOR, ".filter output")[-1]
        assert said.text == f"{len(trials)} of 7 rows"
    field.clear()
    field.send_keys(" ")
    assert len(column(table, "trial")) == 7


def test_figures_are_drawn_and_say_what_a_dot_is(browser: Chrome, page: Path) -> None:
    opened(browser, page)
    figures = browser.find_elements(By.CSS_SELECTOR, "figure .drawing svg")
    assert len(figures) == 9
    for figure in figures:
        assert figure.size["width"] > 300
        assert figure.size["height"] > 80
        marks = figure.find_elements(By.CSS_SELECTOR, ".dot, .hollow, .mean, .block, .ring")
        assert any(one.rect["width"] > 0 for one in marks), figure.get_attribute("aria-label")
    level = browser.find_element(By.CSS_SELECTOR, "#lead .level")
    assert "0.050" in str(level.find_element(By.TAG_NAME, "title").get_attribute("textContent"))
    dot = browser.find_element(By.CSS_SELECTOR, "#lead .drawing .dot")
    ActionChains(browser).move_to_element(dot).perform()
    tip = browser.find_element(By.ID, "tip")
    assert tip.text.startswith("trial 0, rank=4")
    assert tip.text.endswith("0.000")
    assert complaints(browser) == []


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_page(browser: Chrome, page: Path, width: int) -> None:
    opened(browser, page, width)
    assert ask(browser, "return document.documentElement.scrollWidth") == width
    assert ask(browser, "return window.innerWidth") == width


def complaints(browser: Chrome) -> Any:
    return browser.get_log("browser")  # type: ignore[no-untyped-call]


def ask(browser: Chrome, script: str, *values: Any) -> Any:
    return browser.execute_script(script, *values)


def test_dark_pages_are_dark_and_paper_is_white(browser: Chrome, page: Path) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    fill = "return getComputedStyle(document.querySelector('#lead text')).fill"
    seen = {}
    for scheme in ("light", "dark"):
        opened(browser, page, prefers_color_scheme=scheme)
        seen[scheme] = (sum(channels(ask(browser, background))), sum(channels(ask(browser, fill))))
    assert seen["light"][0] > 700 > 150 > seen["light"][1]
    assert seen["dark"][0] < 150 < 600 < seen["dark"][1]
    printed = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", printed)
    assert sum(channels(ask(browser, background))) > 700
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")


def channels(color: str) -> list[int]:
    """Of 'rgb(20, 23, 27)'."""
    return [int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")]


def test_the_keyboard_reaches_sorting_and_shows_where_it_is(browser: Chrome, page: Path) -> None:
    opened(browser, page)
    body = browser.find_element(By.TAG_NAME, "body")
    reached = []
    for _ in range(30):
        body.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        reached.append(active.tag_name)
        if active.tag_name == "button":
            break
    assert reached[-1] == "button"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert ask(browser, outline) == "solid"


def test_a_thousand_trials_open_at_once(
    browser: Chrome,
    make_facts: FactsFactory,
    make_record: RecordFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a random search over three keys leaves them; without fANOVA, whose trees take longest and draw three bars."""
    monkeypatch.setattr("sweeplab.report.pages.measure_importance", lambda facts, records: [])
    records = []
    for n in range(1000):
        curve = [HeldoutPoint(k, 3 / (k + 1 + n % 7)) for k in range(10)]
        status = {} if n % 5 else {"status": Status.PRUNED, "reason": f"pruner=asha at step 5: loss {n}"}
        score = {"acc": Score((n * 7919 % 1000) / 1000, 0.03, 200)}
        scores = {"a": score} if n % 5 else {}
        params = {"optimizer.lr": 1e-5 * 1.007**n, "adapter.rank": 2 ** (n % 7), "adapter.dropout": n % 3 / 10}
        loss = None if n % 5 == 0 else 1 + n / 1000
        made = make_record(n, params, 0, loss, scores, **({"heldout_losses": curve} | status))
        made.losses = [TrainPoint(point.step, point.loss, 1e-3) for point in curve]
        records.append(made)
    path = write_report(make_facts(space={}, objectives={"scores.a.acc": "maximize"}), records, tmp_path)
    assert path.stat().st_size < MAX_BYTES
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    opened(browser, path)
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    spent = {metric["name"]: metric["value"] for metric in metrics}
    # of the page's own thread, so that it says nothing of who else uses the machine
    assert 0.05 < spent["TaskDuration"] < MAX_OPEN_SECONDS
    assert ask(browser, "return document.querySelectorAll('.trials tbody tr').length") == 1000
    assert ask(browser, "return document.querySelectorAll('#parallel polyline').length") == 800
    assert complaints(browser) == []


def test_names_over_parallel_axes_keep_apart(
    browser: Chrome, make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path
) -> None:
    """As many rails as there can be, with names longer than a rail's share of the page."""
    keys = (
        "quantization",
        "optimizer",
        "training.gradient_checkpointing",
        "training.epochs",
        "adapter.lora_projection",
    )
    points = [dict.fromkeys((*keys, "adapter.alpha_ratio", "adapter.rank"), n + 1) for n in range(3)]
    records = [make_record(n, point, loss=1.0 + n) for n, point in enumerate(points)]
    opened(browser, write_report(make_facts(space={}), records, tmp_path))
    boxes = [one.rect for one in browser.find_elements(By.CSS_SELECTOR, "#parallel .strong")]
    assert len(boxes) > 10  # names of several lines
    for line in {box["y"] for box in boxes}:
        row = sorted((box["x"], box["x"] + box["width"]) for box in boxes if box["y"] == line)
        assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(row)), row


def test_a_long_table_begins_with_its_best_rows_and_shows_all_when_asked(
    browser: Chrome, make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path
) -> None:
    records = [make_record(n, {"adapter.rank": n + 1}, loss=1.0 + (n - 30) ** 2) for n in range(45)]
    opened(browser, write_report(make_facts(space={}), records, tmp_path))
    table = browser.find_element(By.TAG_NAME, "table")
    best = [str(rank) for rank in sorted(range(1, 46), key=lambda rank: (rank - 31) ** 2)]
    assert column(table, "rank")[0] == best[0] == "31"
    assert len(column(table, "rank")) == 20
    box = browser.find_element(By.CSS_SELECTOR, ".scroll")
    assert ask(browser, "return arguments[0].scrollHeight - arguments[0].clientHeight", box) < 20  # a bar at most
    browser.find_element(By.CSS_SELECTOR, ".tools .rows").click()
    assert len(column(table, "rank")) == 45
    browser.find_element(By.CSS_SELECTOR, ".tools .rows").click()
    browser.find_element(By.CSS_SELECTOR, ".filter input").send_keys("rank=1")
    assert column(table, "rank") == ["1"]  # a filter looks through all of them


def test_the_objective_is_seen_on_a_phone(browser: Chrome, page: Path) -> None:
    opened(browser, page, 390)
    cells = browser.find_elements(By.CSS_SELECTOR, "table th")
    assert [one.text.splitlines()[0] for one in cells[:3]] == ["rank", "lr", "new, acc"]
    assert cells[2].rect["x"] + cells[2].rect["width"] < 390


def test_tables_are_saved_as_csv_and_figures_as_pictures(browser: Chrome, page: Path, tmp_path: Path) -> None:
    """What a click would download, caught on its way."""
    opened(browser, page)
    caught = "window.caught = []; URL.createObjectURL = (blob) => { window.caught.push(blob); return '#'; };"
    ask(browser, caught)
    browser.find_element(By.XPATH, "//button[text()='CSV']").click()
    read = "const done = arguments[0]; window.caught.at(-1).text().then(done)"
    rows = list(csv.DictReader(str(browser.execute_async_script(read)).splitlines()))
    assert [row["rank"] for row in rows] == ["base model", "16", "16", "8", "8", "4", "4", "4"]
    assert [row["new, acc 200 items"] for row in rows[:3]] == ["0.050", "0.625", "0.500"]
    sizes = [row["adapter size (bytes)"] for row in rows[1:3]]
    assert sorted(map(float, sizes)) == [1e3, 1e4]
    figure = browser.find_element(By.ID, "lead")
    figure.find_element(By.XPATH, ".//button[text()='SVG']").click()
    root = ElementTree.fromstring(str(browser.execute_async_script(read)))
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "Acc on new against rank"
    assert "base model without adapter" in texts
    figure.find_element(By.XPATH, ".//button[text()='PNG']").click()
    WebDriverWait(browser, 20).until(lambda _: ask(browser, "return window.caught.at(-1).type") == "image/png")
    assert complaints(browser) == []
