"""The panel in the editor's language: what it says of verdicts, pictures and the line."""

import re

import pytest

from tests.browser import editor as browser
from tests.browser.test_panel import GATE, PANEL, SEND, TILE, look_at
from tests.conftest import ROOT

pytestmark = pytest.mark.browser


def zh(english: str, **values) -> str:
    return browser.read(ROOT / "locales" / "zh.json")["texts"][english].format(**values)


def test_in_a_chinese_editor_the_panel_speaks_chinese(comfy):
    with browser.editor(comfy.url) as editor:
        page = editor.page
        editor.setting("Comfy.Locale", "zh")
        try:
            page.wait_for_timeout(500)
            editor.load(browser.read(ROOT / "example_workflows" / "Identity gate.json"))
            editor.js(SEND, 6)
            page.wait_for_function(f"() => document.querySelectorAll('{TILE}').length === 6")
            look_at(editor, GATE)
            passes, rejects = zh("pass"), zh("reject")
            assert page.locator(f"{PANEL} .count").all_inner_texts() == [f"3 {passes}", f"3 {rejects}"]
            assert page.locator(f"{PANEL} .rate").inner_text() == zh("match rate {passed}/{n}", passed=3, n=6)
            told = page.locator(f"{PANEL} .told").inner_text()
            assert told == f"{zh('Drag the line to set the threshold.')} {zh('Click a picture to pin it as pass or reject.')}"
            page.locator(TILE).nth(1).click()
            pinned = zh("Picture {name}: {verdict}, {score}", name=2, verdict=passes, score="0.37") + zh(", pinned as {verdict}", verdict=passes)
            page.wait_for_function(f"label => document.querySelectorAll('{TILE}')[1].ariaLabel.replace(/0\\.\\d\\d/, '0.37') === label", arg=pinned)
            assert page.locator(f"{PANEL} .unpin-all").inner_text() == zh("Unpin all ({count})", count=1)
            page.keyboard.press("Enter")
            assert page.locator("dialog.likeness-large button").all_inner_texts() == [zh("Previous"), zh("Next"), zh("Close")]
            # Nothing that is read or heard is left in English, but for values of inputs.
            said = editor.js(
                f"""() => [...document.querySelectorAll('{PANEL}, {PANEL} *, .likeness-large, .likeness-large *')]
                    .flatMap(e => [e.ariaLabel, e.title, e.getAttribute('aria-valuetext'), e.children.length ? '' : e.textContent]).filter(Boolean)"""
            )
            assert not [text for text in said if re.search(r"[a-z]{3}", re.sub(r"loose|standard|strict|custom|Space|Enter", "", text))], said
        finally:
            editor.setting("Comfy.Locale", "en")
            page.wait_for_timeout(500)
