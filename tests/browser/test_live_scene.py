"""Pictures of a long run appear in Qwen Character Scene while it runs, with the time left, in both rendering modes."""

import pytest

from tests.browser import editor as browser
from tests.host.qwen_graphs import drawn_picture

pytestmark = pytest.mark.browser

SHOTS = 5

# A graph out of the editor's own parts: loaders, references, a list of shots, the scene and a preview behind it.
BUILD = """([file, words]) => {
    app.graph.clear()
    const add = (type, x, y, values = {}) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        for (const name in values) {
            const widget = node.widgets.find(w => w.name === name)
            widget.value = values[name]
            widget.callback?.(values[name])
        }
        return node
    }
    const link = (from, output, to, input) =>
        from.connect(from.outputs.findIndex(o => o.name === output), to, to.inputs.findIndex(i => i.name === input))
    const unet = add('UNETLoader', 0, 0, { unet_name: 'qwen_image_edit_2511_fp8mixed.safetensors' })
    const clip = add('CLIPLoader', 0, 150, { clip_name: 'qwen_2.5_vl_7b_fp8_scaled.safetensors', type: 'qwen_image' })
    const vae = add('VAELoader', 0, 300, { vae_name: 'qwen_image_vae.safetensors' })
    const face = add('LoadImage', 0, 450, { image: file })
    const references = add('LikenessCharacterReferences', 350, 300, { policy: 'custom megapixels', megapixels: 0.1 })
    const shots = add('LikenessShotList', 350, 650, { scenes: words })
    const scene = add('LikenessQwenScene', 800, 0, { aspect_ratio: 'custom', width: 256, height: 256, group: 1, preset: 'fast' })
    const preview = add('PreviewImage', 1300, 0)
    link(unet, 'MODEL', scene, 'model'); link(clip, 'CLIP', scene, 'clip'); link(vae, 'VAE', scene, 'vae'); link(vae, 'VAE', references, 'vae')
    link(face, 'IMAGE', references, 'face'); link(references, 'references', scene, 'references'); link(shots, 'shots', scene, 'shots')
    link(scene, 'images', preview, 'images')
}"""
# How many pictures the node shows, and the words below its widgets. Nodes 2.0 reads app.nodeOutputs, classic rendering the node's imgs.
LOOK = """vue => {
    const node = app.graph.nodes.find(n => n.type === 'LikenessQwenScene')
    const shown = vue ? document.querySelectorAll(`[data-node-id="${node.id}"] img`).length : node.imgs?.length ?? 0
    return [shown, document.body.innerText.match(/Shot \\d of \\d[^\\n]*|\\d of \\d pictures[^\\n]*/)?.[0] ?? '']
}"""


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "Nodes 2.0"])
def test_pictures_appear_one_after_another_with_the_time_left(qwen, vue):
    file = qwen.upload("live.png", drawn_picture(1, 640, 480))
    with browser.editor(qwen.url, vue) as editor:
        editor.js(BUILD, [file, "\n".join(f"shot {i} of {vue}" for i in range(SHOTS))])
        editor.fit()
        qwen.post("/test_faults", {"slow": 0.3})
        try:
            editor.js("async () => { await app.queuePrompt(0, 1) }")
            seen = []
            while (not seen or "pictures" not in seen[-1][1]) and len(seen) < 120:
                editor.page.wait_for_timeout(250)
                seen.append(editor.js(LOOK, vue))
        finally:
            qwen.post("/test_faults", {})
    during = [count for count, text in seen if text.startswith("Shot")]
    # They come while later shots are still sampled, one by one, and none goes away.
    assert during == sorted(during) and len({*during} - {0}) >= 3, seen
    assert any("about" in text and "left" in text for _, text in seen), seen
    assert seen[-1][1].startswith(f"{SHOTS} of {SHOTS} pictures"), seen[-1]
