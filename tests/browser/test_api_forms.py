"""The shipped API forms are what the real editor sends for the workflows today."""

import pytest

from tests.browser import api_forms
from tests.browser import editor as browser

pytestmark = [pytest.mark.browser]


@pytest.mark.parametrize("name", ["Qwen 2512 + character LoRA", "Identity gate"])
def test_the_editor_sends_what_is_shipped(qwen, name):
    with browser.editor(qwen.url) as editor:
        prompt, lora = api_forms.taken(editor, api_forms.workflow_of(name))
    assert prompt == browser.read(api_forms.FORMS / f"{name}.json")
    assert lora == browser.read(api_forms.FIELDS)[name].get("lora")
    assert bool(lora) == ("LoRA" in name)
