"""The playground, as a person uses it: typing, clicking and reading in a real browser."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest

ATTACK = '<img src=x onerror="window.hit=1"><script>window.hit=2</script>{{1+1}}'


FIELD = "document.querySelector('textarea[aria-label=\"{}\"]').value"


def field(page, label):
    """Find the field with this label in the tab in front."""
    return (
        page.get_by_role("textbox", name=label, exact=True)
        .or_(page.get_by_role("spinbutton", name=label, exact=True))
        .locator("visible=true")
    )


def fill(page, label, text):
    field(page, label).fill(text)


def wait_for_text(page, label, text):
    """Wait until a field holds this text."""
    wait_until(page, f"{FIELD.format(label)} === {json.dumps(text)}")


def press(page, name):
    page.get_by_role("button", name=name).locator("visible=true").click()


def choose(page, label, option):
    """Choose in a list, as one does with a mouse."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).click()


def wait_until(page, condition):
    """Wait for a condition that a browser can tell: an expression of JavaScript."""
    page.wait_for_function(condition)


def turn_to(page, tab):
    """Click a tab, and wait until it shows what it has to show."""
    page.get_by_role("tab").nth(list(page.marks).index(tab)).click()
    page.locator(page.marks[tab]).first.wait_for()


def test_a_text_is_cut_while_it_is_typed(open_page):
    page = open_page("tokens")
    assert page.locator(".chip-view h3").all_inner_texts()[0].startswith("quick")
    view = page.locator(".chip-view").first
    field(page, "Text").fill("")
    page.keyboard.type("a plum\n")
    last = page.locator(".chip-view").nth(1)
    wait_until(page, "document.querySelectorAll('.chip-view')[1].querySelectorAll('.chip').length === 7")
    assert last.locator(".chip bdi").all_inner_texts() == ["a", "·", "p", "l", "u", "m", "⏎"]
    assert last.locator(".chip small").all_inner_texts()[:3] == ["97", "32", "112"]
    assert view.locator(".counts dd").all_inner_texts()[1:3] == ["7", "7"]  # characters and bytes


def test_another_tokenizer_of_the_folder_stands_beside(open_page):
    page = open_page("tokens")
    page.get_by_label("Tokenizers").click()
    page.get_by_role("option", name="letters").click()
    page.keyboard.press("Escape")
    page.locator(".chip-view h3", has_text="letters").wait_for()
    assert page.locator(".chip-view").count() == 4


def test_what_comes_next_is_clicked_drawn_and_taken_back(open_page):
    page = open_page("next")
    fill(page, "Text so far", "i have eaten the")
    shown = "[...document.querySelectorAll('.chips.small bdi')].map((e) => e.textContent).join('')"
    wait_until(page, f"{shown} === 'i·have·eaten·the'")
    first = page.locator("button.bar:visible").first
    token = first.locator("bdi").inner_text().replace("·", " ").replace("⏎", "\n")
    first.click()
    wait_for_text(page, "Text so far", "i have eaten the" + token)
    press(page, "Take the last token back")
    wait_for_text(page, "Text so far", "i have eaten the")
    field(page, "Text so far").focus()
    page.keyboard.press("Control+Enter")
    wait_until(page, f"{FIELD.format('Text so far')}.length > 16")


def test_a_text_at_the_limit_goes_on_with_its_newest_tokens(open_page):
    page, whole = open_page("next"), "plum " * 1600
    fill(page, "Text so far", whole)
    page.locator("button.bar:visible:enabled").first.wait_for()
    field(page, "Text so far").focus()
    page.keyboard.press("Control+Enter")
    wait_until(page, f"{FIELD.format('Text so far')}.length > 8000")
    press(page, "Take the last token back")
    wait_for_text(page, "Text so far", whole)
    turn_to(page, "write")
    fill(page, "Your text", whole)
    fill(page, "New tokens", "30")
    press(page, "Write")
    page.locator(".meter:visible", has_text="seed").wait_for()
    end = (whole + page.locator(".written .new").inner_text())[-8000:]
    press(page, "Go on from what was written")
    wait_for_text(page, "Your text", end)


def test_sliders_reshape_the_distribution_and_leave_the_models_own(open_page):
    page = open_page("next")
    own = page.locator(".bar:visible .percent.faint").all_inner_texts()
    slider = page.get_by_role("slider", name="Temperature").locator("visible=true")
    slider.focus()
    for _ in range(16):
        page.keyboard.press("ArrowLeft")
    page.locator("button.bar:visible .percent", has_text="100 %").first.wait_for()
    assert page.locator(".bar:visible .percent.faint").all_inner_texts() == own
    assert "leave 1 token" in page.locator(".note:visible", has_text="as unsure as").inner_text()


def test_a_text_is_written_and_a_seed_repeats_it(open_page):
    page = open_page("write")
    fill(page, "Your text", "i have")
    fill(page, "Seed", "7")
    fill(page, "New tokens", "30")
    texts = []
    for prompt in ("i have", "so much", "i have"):
        fill(page, "Your text", prompt)
        press(page, "Write")
        page.locator(".begun", has_text=prompt).wait_for()
        page.locator(".meter:visible", has_text="seed 7").wait_for()
        texts.append(page.locator(".written .new").inner_text())
    assert texts[0] == texts[2] != texts[1]
    page.get_by_text("mark what surprised the model").click()
    page.locator(".sure").first.wait_for()
    assert "".join(page.locator(".sure").all_inner_texts()).strip() == texts[2].strip()
    press(page, "Go on from what was written")
    wait_until(page, f"{FIELD.format('Your text')}.startsWith({json.dumps('i have' + texts[2][:5])})")


def test_a_form_that_text_keeps_to(open_page):
    pytest.importorskip("llguidance", reason="forms need llguidance")
    page = open_page("write")
    page.get_by_text("More rules").locator("visible=true").click()
    fill(page, "Regular expression", "[0-9]{3}")
    press(page, "Write")
    page.locator(".meter:visible", has_text="ended by itself").wait_for()
    assert page.locator(".written .new").inner_text().isdigit()


def test_an_option_that_cannot_be_is_told_in_the_page(open_page):
    page = open_page("write")
    fill(page, "New tokens", "99999")
    press(page, "Write")
    notice = page.locator(".notice:visible")
    notice.wait_for()
    assert "max_new_tokens = 99999" in notice.inner_text()
    fill(page, "New tokens", "5")
    press(page, "Write")
    page.locator(".meter:visible", has_text="seed").wait_for()  # it may end before its five tokens
    assert notice.count() == 0


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_stops(open_page, how):
    page = open_page("write")
    choose(page, "Model", "slow")
    fill(page, "New tokens", "2000")
    before = page.locator(".paper").bounding_box()
    field(page, "Your text").focus()
    page.keyboard.press("Control+Enter")
    page.locator(".meter:visible", has_text="tokens/s").wait_for()
    wait_until(page, "document.querySelector('.written .new').innerText.length > 5")
    assert page.locator(".paper").bounding_box() == before  # nothing jumps while it is written
    if how == "button":
        press(page, "Stop (Escape)")
    else:
        page.keyboard.press("Escape")
    page.locator(".meter:visible", has_text="stopped").wait_for()
    page.get_by_role("button", name="Write", exact=True).locator("visible=true").wait_for()
    assert page.locator(".paper").bounding_box() == before


def test_who_leaves_stops_the_work(open_page, site):
    page = open_page("write")
    choose(page, "Model", "slow")
    fill(page, "New tokens", "2000")
    asked = running(site)["asked"]
    press(page, "Write")
    page.locator(".meter:visible", has_text="tokens/s").wait_for()
    page.goto("about:blank")
    deadline = time.monotonic() + 60
    while (seen := running(site))["cancelled"] < seen["asked"]:
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    assert seen["asked"] == asked + 1


def running(site):
    with urllib.request.urlopen(site.url + "running") as answer:
        return json.load(answer)


def test_a_talk(open_page):
    page = open_page("chat")
    fill(page, "New tokens", "8")
    fill(page, "Seed", "1")  # both answers have letters: a question that got none is no part of the talk
    message = field(page, "Your message")
    for question in ("who has eaten the plums?", "and why?"):
        message.fill(question)
        page.keyboard.press("Enter")
        page.locator(".bubble.user", has_text=question).wait_for()
        page.locator(".meter:visible", has_text="seed").wait_for()
    assert page.locator(".bubble").count() == 4
    assert message.input_value() == ""
    message.fill("one line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("another")
    assert message.input_value() == "one line\nanother"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(page, "Copy the talk")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith(
        "You: who has eaten the plums?\n\nModel: "
    )
    press(page, "Take the last question")
    page.locator(".bubble").nth(2).wait_for(state="detached")
    assert message.input_value() == "and why?"
    press(page, "Forget what was said")
    page.get_by_text("Nothing was said yet.").wait_for()
    assert page.locator(".bubble").count() == 0


def test_a_run_is_followed_while_it_grows(open_page, site):
    page = open_page("training")
    assert page.locator(".chart canvas").count() == 2
    page.locator(".facts", has_text="60 of 60").wait_for()
    assert "finished" in page.locator(".facts").inner_text()
    assert page.locator(".sample h3").all_inner_texts() == [
        "after 20 updates",
        "after 40 updates",
        "after 60 updates",
    ]
    record = {"step": 61, "loss": 1.25, "learning_rate": 1e-4, "grad_norm": 1.0, "seconds": 9.0}
    with (site.runs / "plums" / "training" / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(record) + "\n")
    page.locator(".facts", has_text="61 of 60").wait_for()
    assert "1.250" in page.locator(".facts").inner_text()
    press(page, "Write a sample now")
    page.locator(".sample.asked").wait_for()
    assert page.locator(".sample.asked .begun").inner_text() == "Once upon a time"


def test_the_inside_of_a_model(open_page):
    page = open_page("inside")
    fill(page, "Text", "the plums that were")
    page.locator(".note:visible", has_text="all ").wait_for()
    assert page.locator(".map canvas").count() > 0
    rows = page.locator(".lens tbody tr th").all_inner_texts()
    assert rows == ["block 1", "block 0", "embeddings"]
    before = page.locator(".glances:visible").inner_text()
    choose(page, "Layer", "1")
    pressed = page.locator(".head[aria-pressed=true]")
    wait_until(page, "document.querySelector('.head[aria-pressed=true]').title === 'Layer 1, head 0'")
    press(page, "Layer 0, head 1")
    wait_until(page, "document.querySelector('.head[aria-pressed=true]').title === 'Layer 0, head 1'")
    assert pressed.count() == 1
    assert page.locator(".head").count() == 4
    choose(page, "Layer", "1")
    wait_until(page, f"document.querySelector('.glances').innerText !== {json.dumps(before)}")


def test_two_visitors_see_nothing_of_each_other(open_page):
    one, other = open_page("write"), open_page("write")
    fill(one, "Your text", "a secret")
    press(one, "Write")
    one.locator(".begun", has_text="a secret").wait_for()
    choose(one, "Model", "slow")
    assert "a secret" not in other.content()
    assert field(other, "Your text").input_value() != "a secret"
    assert "quick" in other.locator(".about").inner_text()


def test_markup_in_a_text_stays_text(open_page):
    page = open_page()
    places = {
        "tokens": ("Text", ".chips"),
        "next": ("Text so far", ".chips"),
        "write": ("Your text", ".begun"),
        "chat": ("Your message", ".bubble.user"),
        "training": ("Begin with", ".asked"),
        "inside": ("Text", ".lens"),
    }
    for tab, (label, place) in places.items():
        turn_to(page, tab)
        fill(page, label, ATTACK)
        if tab in ("write", "training"):
            page.locator("[data-run]:visible").click()
        elif tab == "chat":
            page.keyboard.press("Enter")
        page.locator(f"{place}:visible", has_text="<").first.wait_for()
        assert page.locator("img[src=x]").count() == 0, tab
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_window(open_page, width):
    page = open_page("tokens", width=width, height=844)
    fill(page, "Text", "an unbroken word: " + "x" * 300)
    page.locator(".chip:visible").nth(20).wait_for()
    for tab in page.marks:
        turn_to(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_in_the_dark_and_in_the_light(open_page, dark):
    page = open_page("chat", dark=dark)
    fill(page, "Your message", "who?")
    page.keyboard.press("Enter")
    page.locator(".meter:visible", has_text="seed").wait_for()
    brightness = page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.slice(4))")
    assert (brightness < 60) == dark
    for tab in page.marks:
        turn_to(page, tab)
        assert page.evaluate(CONTRAST) == [], tab


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return rgba("white");
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest("script, style, canvas, [disabled], .q-icon, .sr-only")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)} (${element.className})`);
  }
  return bad;
}"""
"""Lists the texts whose contrast with what is behind them is below 4.5 to 1 (WCAG, AA)."""


def test_the_theme_can_be_switched_and_is_remembered(open_page):
    page = open_page("tokens")
    is_dark = "document.body.classList.contains('body--dark')"
    assert page.evaluate(is_dark) is False
    press(page, "Change theme")
    wait_until(page, is_dark)
    page.reload()
    wait_until(page, is_dark)
    press(page, "Change theme")
    wait_until(page, f"!{is_dark}")


def test_drawings_follow_the_theme(open_page):
    page = open_page("training")
    chart = page.locator(".chart canvas").first
    before = chart.screenshot()
    press(page, "Change theme")
    wait_until(page, "document.body.classList.contains('body--dark')")
    page.wait_for_timeout(500)
    assert chart.screenshot() != before


def test_every_control_has_a_name(open_page):
    page = open_page()
    for tab in page.marks:
        turn_to(page, tab)
        assert page.evaluate(NAMELESS) == [], tab


NAMELESS = """() => {
  const named = (e) => e.getAttribute("aria-label") || e.innerText?.trim()
    || [...(e.labels ?? [])].some((label) => label.innerText.trim());
  return [...document.querySelectorAll("button, input, textarea, select, [role=slider], [role=tab]")]
    .filter((e) => e.checkVisibility() && e.type !== "hidden" && !named(e)).map((e) => e.outerHTML.slice(0, 200));
}"""
"""Lists the controls that have neither a text nor a label."""


def test_the_keyboard_is_enough(open_page):
    page = open_page("tokens")
    page.locator("[role=tab]").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(page.marks["next"]).first.wait_for()
    assert page.evaluate("location.hash") == "#next"
    reached, styles = set(), []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        styles.append(
            page.evaluate("""() => {
          const e = document.activeElement, control = e.closest(".q-field--highlighted");
          return getComputedStyle(e).outlineStyle !== "none" || control !== null;
        }""")
        )
    assert {"Text so far", "Draw one token (Ctrl+Enter)"} <= reached
    assert all(styles)


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_stored(open_page, site):
    page = open_page("tokens")
    for tab in page.marks:
        page.goto(f"{site.url}#{tab}")
        page.locator(page.marks[tab]).first.wait_for()
    assert len(page.requested) > 10
    ours = (site.url, "data:", "blob:")
    assert [url for url in page.requested if not url.startswith(ours)] == []
    assert page.context.cookies() == []
    assert list(site.cwd.iterdir()) == []


def test_an_address_that_changes_faster_than_the_page_is_followed_to_its_end(open_page):
    page = open_page("tokens")
    for last in ("training", "inside", "tokens"):
        for tab in (*page.marks, last):
            page.evaluate("tab => { location.hash = tab }", tab)
            page.wait_for_timeout(25)
        page.locator(page.marks[last]).first.wait_for()
        page.wait_for_timeout(200)
        assert page.evaluate("location.hash") == f"#{last}"
        assert page.locator(page.marks[last]).first.is_visible()


def test_an_address_names_a_tab_and_an_unknown_one_does_no_harm(open_page, site):
    page = open_page("tokens")
    page.goto(f"{site.url}#nowhere")
    page.reload()
    page.locator(page.marks["tokens"]).first.wait_for()
    page.evaluate("location.hash = '#inside'")
    page.locator(page.marks["inside"]).first.wait_for()
