"""The device's metrics are clean by Prometheus' own tool and say where an update, the link and the outbox stand."""

from __future__ import annotations

from edgewise.edge._device_metrics import metrics_page
from edgewise.edge._v2_metrics import metrics_page as served_page
from edgewise.edge._v2_models import Tally
from edgewise.ports import MemoryLink
from exposition import promtool


def test_the_page_is_clean_by_promtool_and_tells_of_update_link_and_queue(fleet):
    cut: list[bool] = []
    device = fleet.device(link=MemoryLink(fleet.hub, "d1", lambda _: bool(cut)))
    before = metrics_page(device, None).decode()
    assert "edgewise_edge_link_up 0.0" in before
    fleet.assign(fleet.release(1))
    fleet.run(device, 5)
    for number in range(20):
        fleet.source.add(fleet.frame(number))
    fleet.run(device, 40, seconds=2)
    text = metrics_page(device, None).decode()
    assert promtool("check", "metrics", given=text) == ""
    assert promtool("check", "metrics", given=before) == ""
    assert "edgewise_edge_link_up 1.0" in text
    assert f'edgewise_edge_update_phase{{phase="{device.updater.phase.value}"}} 1.0' in text
    assert text.count("edgewise_edge_update_phase{") == 7
    assert "edgewise_edge_outbox_class_bytes{" in text
    assert "edgewise_build_info{version=" in text
    cut.append(True)
    device.contacts.hurry(fleet.clock.now())
    fleet.run(device, 5, seconds=2)
    assert "edgewise_edge_link_up 0.0" in metrics_page(device, None).decode()


def test_the_page_of_a_served_network_is_clean_too():
    tally = Tally()
    tally("net", 200, 0.004)
    assert promtool("check", "metrics", given=served_page(tally).decode()) == ""
