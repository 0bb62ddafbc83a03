"""The comparison with peers: what their programs print is read right, and a ratio above 1 means that ours wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fabricate import make_bundle

from gmrt.benchmarks import peers, peers_adapters, peers_ours
from gmrt.benchmarks.peers import Measure, compare, constant, parity_of, table
from gmrt.runtime.errors import BundleError
from gmrt.runtime.model import SHIPPED

MTMD = """image slice encoded in 1398 ms
image decoded (batch 1/1) in 70 ms
llama_perf_context_print: prompt eval time =     300.50 ms /    98 tokens (    3.07 ms per token,   326.13 tokens per second)
llama_perf_context_print:        eval time =     138.00 ms /    23 runs   (    6.00 ms per token,   166.67 tokens per second)
"""  # noqa: E501


def test_llama_cpp_is_read() -> None:
    """Guards against a prompt's time that is taken for a token's, and a caption without the image's encoding."""
    figures = peers_adapters.read_mtmd(MTMD)
    assert figures == pytest.approx({"tower_s": 1.398, "first_s": 1.6985, "image_s": 1.6985 + 24 * 0.006})
    assert peers_adapters.read_bench('warning: x\n[{"n_prompt": 256, "avg_ts": 769.5}]') == 769.5
    with pytest.raises(ValueError, match="no timings"):
        peers_adapters.read_mtmd("error: model not found")


def test_ratio_above_one_is_ours() -> None:
    """Guards against a ratio the wrong way up where less is better, and rounds that do not alternate."""
    order: list[str] = []

    def ours() -> dict[str, float]:
        order.append("ours")
        return {"s": 2.0}

    def peer() -> dict[str, float]:
        order.append("peer")
        return {"s": 3.0 if len(order) < 5 else 6.0}

    less = Measure("tower", "s", lambda f: f["s"], lambda f: f["s"], 1.0, larger=False)
    more = Measure("speed", "tok/s", lambda f: 1 / f["s"], lambda f: 1 / f["s"], 4.0)
    rows = compare([less, more], ours, peer, name="them", rounds=3, parity=0.99)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [row.ratio for row in rows] == pytest.approx([1.5, 1.5])
    assert (rows[0].ours, rows[0].peer) == (2.0, 3.0)
    shown = table(rows)
    assert "| tower | 2 s | 3 s (them) | 1.50 | 1 | 99.0% |" in shown
    assert "1.50 (short)" in shown
    limit = Measure("rss", "MB", lambda f: f["s"], lambda f: f["limit"], 1.0, larger=False)
    (row,) = compare([limit], ours, constant({"limit": 4.0}), name="limit", rounds=1, parity=None)
    assert row.ratio == 2.0


def test_a_bundle_that_did_not_pass_is_not_timed(tmp_path: Path) -> None:
    """Guards against the speed of a bundle that answers wrongly."""
    bundle = make_bundle(tmp_path / "bundle").path
    data = json.loads((bundle / "bundle.json").read_text())
    data["parity"] = {"passed": False}
    (bundle / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="no passed gate"):
        parity_of(bundle)
    assert 0.9 < parity_of(SHIPPED) <= 1


def test_our_side_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against work that cannot run, or whose amount depends on what the model says."""
    for name, value in (("PROMPT", 40), ("NEW", 6), ("TILES", 5), ("CAPTION", 4), ("REPEATS", 1)):
        monkeypatch.setattr(peers_ours, name, value)
    monkeypatch.setattr(peers_ours, "_READ_BYTES", 1 << 20)
    for name, work in peers_ours.WORK.items():
        assert all(value > 0 for value in work(SHIPPED).values()), name
    assert peers.parse(["--int8", "x"]).rounds == 5
