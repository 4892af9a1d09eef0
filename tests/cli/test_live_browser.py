"""The live page in a browser: buttons by keyboard, a new report without losing the place, no barred script."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from sweeplab.cli.live_page import build_application
from sweeplab.cli.live_view import LiveView
from sweeplab.records.lock import only_writer
from sweeplab.records.wishes import AddSeed, StopTrial, read_wishes
from tests.cli.studies import end_trial, make_study
from tests.study_runs import wait_until

BROWSER: Final = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER: Final = shutil.which("chromedriver")
MOST_SECONDS: Final = 120

pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no chromium and chromedriver; apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = Chrome(options=options, service=Service(executable_path=DRIVER))
    yield made
    made.quit()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the page, which a thread serves."""
    loop, started, address = asyncio.new_event_loop(), threading.Event(), list[str]()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(build_application(LiveView(folder), "t0ken"), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}/t0ken/")
        started.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(MOST_SECONDS)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(MOST_SECONDS)


def run_script(browser: Chrome, script: str) -> Any:
    return browser.execute_script(f"return {script}")


def wait_for(browser: Chrome, ident: str) -> Any:
    return WebDriverWait(browser, MOST_SECONDS).until(lambda one: one.find_element(By.ID, ident))


def wait_for_text(browser: Chrome, text: str) -> None:
    WebDriverWait(browser, MOST_SECONDS).until(lambda one: text in one.find_element(By.ID, "live").text)


def test_the_page_is_used_by_keyboard_and_keeps_its_place_when_the_report_is_new(
    browser: Chrome, tmp_path: Path
) -> None:
    folder = make_study(tmp_path / "runs" / "single")
    with only_writer(folder), served(folder) as address:
        browser.set_window_size(390, 800)
        browser.get(address)
        wait_for(browser, "stop-3").send_keys(Keys.ENTER)
        alert = WebDriverWait(browser, MOST_SECONDS).until(lambda one: one.switch_to.alert)
        assert alert.text.startswith("Stop trial 3: rank=8 seed=1?")
        alert.accept()
        wait_until(lambda: read_wishes(folder)[0] == [StopTrial(3)])
        button = wait_for(browser, "stop-3")
        WebDriverWait(browser, MOST_SECONDS).until(lambda _: button.text == "Ends after this step")
        assert not button.is_enabled()
        assert run_script(browser, "document.querySelector('#live .said').textContent").startswith("Trial 3 ends now")
        assert run_script(browser, "document.documentElement.scrollWidth <= window.innerWidth")
        # folds, a sorted table, a chosen setting and the place on the page outlive a new report
        run_script(browser, "(document.querySelector('#run ~ details').open = true)")
        run_script(browser, "document.querySelector('.tools[data-name=trials] + .scroll th button').click()")
        run_script(browser, "(document.getElementById('setting').value = '1')")
        run_script(browser, "(document.getElementById('reading').scrollIntoView(), window.scrollBy(0, 40))")
        place = "document.getElementById('reading').getBoundingClientRect().top"
        top, version = (
            run_script(browser, place),
            run_script(browser, "document.getElementById('live').dataset.version"),
        )
        end_trial(folder, 2)

        def is_new(_: Chrome) -> bool:
            ready = run_script(browser, "document.getElementById('add-seed') !== null && document.readyState")
            now = run_script(browser, "document.getElementById('live').dataset.version")
            return bool(ready == "complete" and version != now)

        WebDriverWait(browser, MOST_SECONDS, ignored_exceptions=[Exception]).until(is_new)
        assert abs(run_script(browser, place) - top) < 2
        assert run_script(browser, "document.querySelector('#run ~ details').open")
        sorted_by = "document.querySelector('.tools[data-name=trials] + .scroll th[aria-sort]')?.textContent"
        assert run_script(browser, sorted_by) == "trial"
        WebDriverWait(browser, MOST_SECONDS).until(
            lambda _: run_script(browser, "document.getElementById('setting').value") == "1"
        )
        wait_for(browser, "add-seed").send_keys(Keys.SPACE)
        wait_until(lambda: AddSeed(1, 2) in read_wishes(folder)[0])
        assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []  # type: ignore[no-untyped-call]


def test_a_page_that_nobody_serves_any_more_says_so(browser: Chrome, tmp_path: Path) -> None:
    folder = make_study(tmp_path / "runs" / "single", num_ended=4)
    with served(folder) as address:
        browser.get(address)
        WebDriverWait(browser, MOST_SECONDS).until(
            lambda one: "The study has ended" in one.find_element(By.ID, "live").text
        )
        assert not browser.find_element(By.ID, "stop-study").is_displayed()
    wait_for_text(browser, "Nobody serves this page any more")
