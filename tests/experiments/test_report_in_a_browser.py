"""The page of a report, read by a real browser.

Collected where the environment has `TFP_UQSEG_BROWSER`: it needs Chromium with its
driver, and the extra `browser`.
"""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import wait

from tfp_uqseg.data import brats, phantom
from tfp_uqseg.experiments import report

ODD_ID = 'odd<b>id&amp;"x'
NAME = "Jane Doe"
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
#: Width of A4 between margins of 12 mm, CSS pixels.
A4 = 703
#: The least contrast of text, by the Web Content Accessibility Guidelines (AA).
CONTRAST = 4.5


@pytest.fixture(scope="module")
def path(tmp_path_factory, write_maps):
    """A report of three patients; one has an odd id, their files hold a name."""
    folder = tmp_path_factory.mktemp("browser")
    for seed, case_id in enumerate(("case_0", "case_1", ODD_ID)):
        case = phantom.make_case(seed, shape=(40, 48, 6), num_raters=0)
        phantom.write_case(case, folder / "cases", case_id)
    for file in (folder / "cases").rglob("*.nii.gz"):
        image = nibabel.load(file)
        image.header["descrip"] = NAME.encode()
        nibabel.save(nibabel.Nifti1Image(image.dataobj[:], None, image.header), file)
    cases = brats.find_cases(folder / "cases")
    for number, case in enumerate(cases):
        truth = [case.load_truth(region) for region in ("WT", "TC", "ET")]
        unsure = np.clip(np.stack(truth, axis=-1), 0.1 * number, 1 - 0.1 * number)
        write_maps(folder / "maps", case, unsure)
    return report.report(folder / "maps", cases, folder / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in programs.values():
        pytest.fail(
            f"Chromium and its driver must be installed; found {programs}. Install "
            "the packages chromium and chromium-driver, or unset TFP_UQSEG_BROWSER."
        )
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for each in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(each)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    service = webdriver.ChromeService(executable_path=programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, path):
    """The page, just opened in a wide and light window."""
    look(browser, scheme="light", width=1280)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    return browser


def look(browser, *, scheme="light", media="", width=1280) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    emulated = {"media": media, "features": features}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def find(place, selector: str):
    return place.find_element(By.CSS_SELECTOR, selector)


def find_all(place, selector: str) -> list:
    return place.find_elements(By.CSS_SELECTOR, selector)


def opened(page):
    """The panel that the page opens by itself, its slider and what it says."""
    (panel,) = find_all(page, "details[open]")
    return panel, find(panel, "input[type=range]"), find(panel, "output")


def test_the_slider_moves_every_picture_of_its_case(page):
    panel, slider, said = opened(page)
    numbers = panel.get_attribute("data-slices").split()
    last = int(slider.get_attribute("max"))
    assert len(numbers) == last + 1 > 1
    seen = []
    for place in (0, last):
        page.execute_script(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}));",
            slider,
            place,
        )
        assert said.text == numbers[place]
        assert slider.get_attribute("aria-valuetext") == f"slice {numbers[place]}"
        pictures = find_all(panel, ".slice")
        seen.append([x.value_of_css_property("background-position") for x in pictures])
    assert len(seen[0]) == 5
    assert all(before != after for before, after in zip(*seen, strict=True))


def test_arrow_keys_move_the_slider(page):
    _, slider, said = opened(page)
    before = said.text
    toward = Keys.LEFT if int(slider.get_attribute("value")) else Keys.RIGHT
    slider.send_keys(toward)
    assert abs(int(said.text) - int(before)) == 1
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("value") == "0"


@pytest.mark.parametrize(
    "press", ["click", Keys.ENTER, Keys.SPACE], ids=["click", "enter", "space"]
)
def test_a_heading_sorts_by_its_column_and_then_the_other_way(page, press):
    heading = next(
        each for each in find_all(page, "th") if "volume, ml" in each.text.lower()
    )
    button, table = find(heading, "button"), heading.find_element(By.XPATH, "../../..")
    place = find_all(table, "th").index(heading)

    def column():
        rows = find_all(table, "tbody tr")
        return [
            float(find_all(row, "td, th")[place].get_attribute("data-value"))
            for row in rows
        ]

    for order, expected in (("ascending", 1), ("descending", -1)):
        if press == "click":
            button.click()
        else:
            button.send_keys(press)
        assert heading.get_attribute("aria-sort") == order
        assert column() == sorted(column())[::expected]
        assert len(set(column())) > 1
    others = [each for each in find_all(table, "th") if each != heading]
    assert all(each.get_attribute("aria-sort") is None for each in others)


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page):
    controls = [
        each
        for each in find_all(page, "a[href], button, summary, input")
        if each.is_displayed()
    ]
    for control in controls:
        page.switch_to.active_element.send_keys(Keys.TAB)
        assert page.switch_to.active_element == control
        assert control.value_of_css_property("outline-style") == "solid"
        assert control.value_of_css_property("outline-width") == "3px"


def test_a_patient_of_the_list_opens_in_its_panel(page):
    panel = find_all(page, "details")[-1]
    assert panel.get_attribute("open") is None
    said = find(panel, "summary").text
    links = find_all(page, "a[href^='#case-']")
    next(link for link in links if link.text in said).click()
    patience = wait.WebDriverWait(page, 10)
    assert patience.until(lambda _: panel.get_attribute("open") is not None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page, scheme):
    look(page, scheme=scheme)
    worst = page.execute_script(CONTRASTS)
    assert worst["contrast"] >= CONTRAST, worst
    white = page.execute_script(GROUND) == "rgb(255, 255, 255)"
    assert white == (scheme == "light")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_of_a_window(page, width):
    look(page, width=width)
    find_all(page, "details summary")[-1].click()
    inside = page.execute_script(
        "return document.documentElement.scrollWidth <= window.innerWidth"
    )
    assert inside


def test_the_page_asks_for_nothing_and_complains_of_nothing(page, path):
    loaded = page.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )
    assert [each for each in loaded if not each.startswith("data:")] == []
    asked = [
        entry["message"]
        for entry in page.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert asked
    assert not [each for each in asked if '"url":"http' in each]
    assert page.get_log("browser") == []


def test_an_odd_id_is_text_and_no_name_gets_out(page):
    text = find(page, "body").text
    assert ODD_ID in text
    assert NAME not in page.page_source
    assert NAME.upper() not in page.page_source.upper()
    assert find_all(page, "b") == []


def test_on_paper_every_open_case_is_there_and_no_control(page):
    look(page, media="print", scheme="dark")
    panel, slider, said = opened(page)
    assert panel.is_displayed()
    assert said.is_displayed()
    assert not slider.is_displayed()
    assert page.execute_script(GROUND) == "rgb(255, 255, 255)"
    assert page.execute_script(CONTRASTS)["contrast"] >= CONTRAST


def test_no_column_is_cut_off_on_paper(page):
    look(page, media="print", width=A4)
    inside = page.execute_script(
        "return [...document.querySelectorAll('table, .plots, .views')].map("
        "(each) => each.getBoundingClientRect().right)"
    )
    assert max(inside) <= A4
    boxes = "return [...document.querySelectorAll('.scroll')].map((each) => each."
    seen, held = (
        page.execute_script(boxes + f"{x}Width)") for x in ("client", "scroll")
    )
    assert seen == held


GROUND = "return getComputedStyle(document.body).backgroundColor"
#: Returns the least contrast between a text and the ground it stands on.
CONTRASTS = """
const canvas = document.createElement("canvas")
  .getContext("2d", {willReadFrequently: true});
function numbers(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return Array.from(canvas.getImageData(0, 0, 1, 1).data);
}
function light(colour) {
  const parts = numbers(colour).slice(0, 3).map((each) => {
    const part = each / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
function ground(element) {
  for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (numbers(colour)[3] > 250) return colour;
  }
  return "white";
}
let worst = {contrast: 99};
for (const element of document.querySelectorAll("body *")) {
  const own = Array.from(element.childNodes).some(
    (node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility() || element.closest("svg, script")) continue;
  const text = light(getComputedStyle(element).color);
  const behind = light(ground(element));
  const contrast = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
  if (contrast < worst.contrast) {
    worst = {contrast, text: element.textContent.slice(0, 60)};
  }
}
return worst;
"""
