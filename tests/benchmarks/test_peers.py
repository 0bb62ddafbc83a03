"""The comparison with peers: what their programs print is read right, and a ratio above 1 means that ours wins."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from fabricate import make_bundle

from gmrt.benchmarks.peers import __main__ as command
from gmrt.benchmarks.peers import comparisons, ours
from gmrt.benchmarks.peers.comparisons import Ours, Peers, parity_of
from gmrt.benchmarks.peers.genai import GenAI
from gmrt.benchmarks.peers.llamacpp import LlamaCpp, read_bench, read_mtmd
from gmrt.benchmarks.peers.openvino import OpenVINO
from gmrt.benchmarks.peers.pytorch import PyTorch
from gmrt.benchmarks.peers.rows import Figures, Measure, Side, compare, constant, table
from gmrt.benchmarks.peers.run import PeerError, figures_of, output_of
from gmrt.runtime.errors import BundleError
from gmrt.runtime.model import SHIPPED

MTMD = """0.15.212.590 I encoding mtmd batch, n_chunks = 1 (done = 1, total = 3)
0.30.065.412 I mtmd batch encoding done in 1398 ms
0.34.956.705 I llama_perf_context_print: prompt eval time =     {prompt} ms /   119 tokens (  14.3 ms per token, 70 tokens per second)
0.34.956.707 I llama_perf_context_print:        eval time =     138.00 ms /    23 runs   (    6.00 ms per token, 166.67 tokens per second)
"""  # noqa: E501
ASKED = {
    "decode_int8", "decode_int4_llamacpp", "decode_int4_genai", "prefill_256", "tower_int8_llamacpp", "first_token",
    "tower_int8_openvino", "second_question", "scene_64", "bandwidth_share", "nano_cold", "peak_rss",
    "decode_int8_reduced", "decode_int4_reduced", "tower_int8_openvino_int8",
}  # fmt: skip


def test_llama_cpp_is_read() -> None:
    """Guards against a tower's time counted twice, or not at all, and against a prompt's time taken for a token's."""
    wanted = {"tower_s": 1.398, "first_s": 1.6985, "image_s": 1.6985 + 23 * 0.006}
    assert read_mtmd(MTMD.format(prompt="1698.50")) == pytest.approx(wanted)  # the tower is part of the prompt
    assert read_mtmd(MTMD.format(prompt="300.50")) == pytest.approx(wanted)  # it is not
    assert read_bench('warning: x\n[{"n_prompt": 256, "avg_ts": 769.5}]') == 769.5


@pytest.mark.parametrize("log", ["error: model not found", MTMD + MTMD, MTMD.replace("prompt eval", "no")])
def test_other_work_of_llama_cpp_is_refused(log: str) -> None:
    """Guards against an image that was encoded as overview and tiles, twice our work, and a log without times."""
    with pytest.raises(PeerError, match="timings of one image"):
        read_mtmd(log)


def test_ratio_above_one_is_ours() -> None:
    """Guards against a ratio the wrong way up where less is better, and rounds that do not alternate."""
    order: list[str] = []

    def mine() -> Figures:
        order.append("ours")
        return {"s": 2.0}

    def peer() -> Figures:
        order.append("peer")
        return {"s": 3.0 if len(order) < 5 else 6.0}

    less = Measure("tower", "s", lambda f: f["s"], lambda f: f["s"], 1.0, larger=False, parity=0.99)
    more = Measure("speed", "tok/s", lambda f: 1 / f["s"], lambda f: 1 / f["s"], 4.0)
    seen = Measure("seen", "s", lambda f: f["s"], lambda f: f["s"], None)
    rows = compare([less, more, seen], mine, peer, name="them", rounds=3)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [row.ratio for row in rows[:2]] == pytest.approx([1.5, 1.5])
    assert (rows[0].ours, rows[0].peer) == (2.0, 3.0)
    shown = table(rows)
    assert "| tower | 2 s | 3 s (them) | 1.50 | 1 | 99.0% |" in shown
    assert "1.50 (short)" in shown
    assert "| seen | 2 s | 3 s (them) | 0.67 |  |  |" in shown  # nothing is wanted of it: not short
    limit = Measure("rss", "MB", lambda f: f["s"], lambda f: f["limit"], 1.0, larger=False)
    (row,) = compare([limit], mine, constant(4.0), name="limit", rounds=1)
    assert row.ratio == 2.0


def _fake(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Sides that run nothing; returns what ours was asked for: (work, bundle)."""
    asked: list[tuple[str, str]] = []
    keys = ("token_s", "prefill_s", "tower_s", "first_s", "second_s", "images_per_s", "token_bytes", "bytes_per_s")

    def side(work: str, bundle: Path) -> Side:
        def run() -> Figures:
            asked.append((work, bundle.name))
            return dict.fromkeys((*keys, "peak_bytes"), 2.0 if bundle.name == "int4" else 1.0)

        return run

    peer = dict.fromkeys((*keys, "image_s"), 2.0)
    monkeypatch.setattr(comparisons, "our", side)
    monkeypatch.setattr(comparisons, "parity_of", lambda bundle: 0.5 if bundle.name == "int4" else 0.9)
    monkeypatch.setattr(comparisons, "cold_start", lambda _: {"cold_s": 0.5})
    for kind, methods in ((LlamaCpp, ("decode", "image")), (GenAI, ("decode",)), (PyTorch, ("decode", "tower"))):
        for method in methods:
            monkeypatch.setattr(kind, method, lambda *_: peer)
    monkeypatch.setattr(OpenVINO, "decode", lambda *_: {**peer, "prefill_s": 1.5})
    monkeypatch.setattr(OpenVINO, "encode", lambda *_: peer)
    monkeypatch.setattr(OpenVINO, "float_name", lambda _: "bf16")
    return asked


def _peers() -> Peers:
    at = Path()
    return Peers(LlamaCpp(at, Path("q8_0"), Path("q4_0"), at), GenAI(at, at), OpenVINO(at, at, at), PyTorch(at, at))


def test_every_row_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a row that is renamed or lost, one measured with another bundle, and another's token agreement."""
    asked = _fake(monkeypatch)
    bundles = Ours(*(Path(name) for name in ("int8", "int4", "int8-reduced", "int4-reduced")))
    found = comparisons.run(bundles, _peers(), Path("image"), rounds=1, threads=2)
    rows = {row.row: row for part in found for row in part}
    assert set(rows) >= ASKED
    assert {f"prefill_256_{peer}" for peer in ("llamacpp_q8_0", "llamacpp_q4_0", "genai", "openvino_int8")} < set(rows)
    assert (rows["decode_int4_genai"].ratio, rows["decode_int4_genai"].parity) == (1.0, 0.5)
    assert (rows["prefill_256_genai"].ratio, rows["prefill_256_genai"].parity) == (2.0, 0.9)
    assert (rows["prefill_256"].ratio, rows["prefill_256"].wanted) == (1.5, 1.0)  # the best of the 8-bit peers
    assert rows["prefill_256"].peer_name == "OpenVINO GenAI Q8_0"
    assert {bundle for work, bundle in asked if work != "decode"} == {"int8"}
    assert rows["second_question"].ratio == pytest.approx(0.1)


def test_rows_without_their_sides_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a peer that was not asked for, and against a 4-bit row that an 8-bit bundle stands in for."""
    asked = _fake(monkeypatch)
    found = comparisons.run(Ours(Path("int8")), Peers(genai=_peers().genai), Path("image"), rounds=1, threads=2)
    rows = {row.row for part in found for row in part}
    limits = {"second_question", "bandwidth_share", "peak_rss", "nano_cold"}
    assert rows == {"prefill_256_genai"} | limits
    assert {bundle for _, bundle in asked} == {"int8"}


def test_a_bundle_that_did_not_pass_is_not_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against the speed of a bundle that answers wrongly, and against learning it after the long work."""
    bundle = make_bundle(tmp_path / "bundle").path
    data = json.loads((bundle / "bundle.json").read_text())
    data["parity"] = {"passed": False}
    (bundle / "bundle.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="no passed gate"):
        parity_of(bundle)
    assert 0.9 < parity_of(SHIPPED) <= 1
    assert command.main(["--int8", str(SHIPPED), "--int4", str(bundle), "--folder", str(tmp_path / "peers")]) == 2
    assert "no passed gate" in capsys.readouterr().err
    assert command.main(["--int8", str(tmp_path / "nothing")]) == 2
    assert not (tmp_path / "peers").exists()


def test_the_record_is_written_as_rows_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an hour's rows that are lost when the last peer fails."""
    monkeypatch.setattr(command, "OUTPUT", tmp_path / "build" / "benchmarks.json")
    monkeypatch.setattr(command, "set_up", lambda *_: Peers())
    less = Measure("tower", "s", lambda f: f["s"], lambda f: f["limit"], 1.0, larger=False)
    (row,) = compare([less], lambda: {"s": 1.0}, constant(1.0), name="limit", rounds=1)

    def measured(*_: object):
        yield [row]
        raise PeerError("llama-bench: failed")

    monkeypatch.setattr(command, "measured", measured)
    assert command.main(["--int8", str(SHIPPED)]) == 1
    assert json.loads((tmp_path / "build" / "benchmarks.json").read_text()) == [asdict(row)]


def test_a_program_of_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against figures that are looked for in a log, and a failure that is taken for a figure."""
    assert output_of("sh", "-c", "echo figures; echo log >&2") == "figures\n"
    assert output_of("sh", "-c", "echo figures; echo log >&2", log=True) == "figures\nlog\n"
    with pytest.raises(PeerError, match="out of memory"):
        output_of("sh", "-c", "echo out of memory >&2; exit 3")
    (tmp_path / "script").write_text("echo loading; echo '{\"token_s\": '$1'}'")
    monkeypatch.setattr("gmrt.benchmarks.peers.run.INSIDE", tmp_path)
    assert figures_of(Path("/bin/sh"), "script", 0.5) == {"token_s": 0.5}


def test_our_side_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against work that cannot run, or whose amount depends on what the model says."""
    for name, value in (("PROMPT", 40), ("NEW", 6), ("TILES", 5), ("CAPTION", 4), ("REPEATS", 1)):
        monkeypatch.setattr(ours, name, value)
    monkeypatch.setattr(ours, "_READ_BYTES", 1 << 20)
    for name, work in ours.WORK.items():
        assert all(value > 0 for value in work(SHIPPED).values()), name
    assert command.parse(["--int8", "x"]).rounds == 5
