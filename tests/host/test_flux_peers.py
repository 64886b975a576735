"""What the two public IP-Adapter packs for Flux do on this host: each graph of theirs ends, well or with an error, and the test tells which.

They are not needed by anything here. The day one of them runs to the end again, these tests say so and stay green.
"""

import pytest

from tests.host.flux_graphs import official_flux
from tests.host.graphs import Graph
from tests.host.peers_flux import IPADAPTER_FLUX, XFLUX, not_imported, with_xlabs_sampler
from tests.host.qwen_graphs import drawn_picture

pytestmark = pytest.mark.host


@pytest.fixture(scope="module", params=[XFLUX, IPADAPTER_FLUX], ids=lambda peer: peer.folder)
def peer(request):
    if reason := request.param.absent():
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="module")
def host(peer, tmp_path_factory):
    host = peer.start(tmp_path_factory.mktemp("peer"))
    yield host
    host.stop()


@pytest.fixture
def outcome(record_property, capsys):
    """Tells what came of a run of the peer's, on the screen and in the report."""

    def tell(what, said):
        record_property(what, said)
        with capsys.disabled():
            print(f"\n    {what}: {said}")

    return tell


def ended(host, peer, change=lambda graph: None, patched=True, seed=1):
    """What came of the official graph, by default with the peer's nodes in it: "runs to the end", or the error's first line."""
    graph = Graph()
    patch = peer.patch(host.upload("face.png", drawn_picture(0))) if patched else None
    graph.show("show", official_flux(graph, patch=patch, seed=seed))
    change(graph)
    ran = host.run(graph)
    if ran.status == "success":
        assert ran.pictures("show")[0].shape == (128, 96, 3)
        return "runs to the end"
    assert ran.error, "it ended without a picture and without an error"
    return f"fails: {ran.error.splitlines()[0]}"


def test_its_graph_ends_and_what_it_leaves_behind(host, peer, outcome):
    if reason := not_imported(host, peer):
        outcome(peer.folder, f"fails: {reason}")
        return
    assert ended(host, peer, patched=False) == "runs to the end", "the host itself"
    outcome(f"{peer.folder} with KSampler", ended(host, peer))
    if peer is XFLUX:
        outcome(f"{peer.folder} with XlabsSampler", ended(host, peer, with_xlabs_sampler))
    outcome(f"{peer.folder}, the plain graph afterwards", ended(host, peer, patched=False, seed=2))
