"""What a Jetson says about itself, read from trees that are constructed from documentation (`boardtree`)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from boardtree import TREES, make_tree

from gmrt.cli.doctor import jetson_checks
from gmrt.runtime.boards import BOARDS, find_board, identify
from gmrt.runtime.errors import MemoryLimitError
from gmrt.runtime.telemetry import Sampler, Sensors, read_jetson


@pytest.mark.parametrize(
    ("name", "jetpack", "l4t", "mode", "watts"),
    [
        ("orin-nano", "JetPack 6", "36.4.3", "MAXN_SUPER", 4.968 * 1.304),
        ("agx-orin", "JetPack 7", "39.2.0", "50W", 19.968 * 0.3 + 4.968),
        ("thor", "JetPack 7", "38.2.0", "MAXN", 11.9 * 1.5 + 5),
    ],
)
def test_each_board_is_read(tmp_path: Path, name: str, jetpack: str, l4t: str, mode: str, watts: float) -> None:
    """Guards against a board that is taken for another, and a rail that is counted twice or not at all."""
    root = make_tree(tmp_path, name)
    found = read_jetson(root)
    assert found is not None
    assert found.board is BOARDS[name]
    assert (found.jetpack, found.l4t, found.mode) == (jetpack, l4t, mode)
    assert (found.cma, found.cma_free) == (262_144 << 10, 131_072 << 10)
    assert found.swap_is_zram == TREES[name]["zram"]
    reading = Sensors(root).read()
    assert reading.total_watts == pytest.approx(watts)
    assert reading.hertz["cpu0"] == 1_728_000_000
    assert {key.removeprefix("gpu "): value for key, value in reading.hertz.items() if key != "cpu0"} == TREES[name][
        "gpus"
    ]
    assert all(value > 0 for value in reading.celsius.values())


@pytest.mark.parametrize("name", TREES)
def test_doctor_names_the_board(tmp_path: Path, name: str) -> None:
    """Guards against a report that leaves out what an engineer asks first: board, JetPack, mode."""
    checks = {check.name: check for check in jetson_checks(make_tree(tmp_path, name))}
    assert BOARDS[name].title in checks["board"].detail
    assert "JetPack" in checks["jetpack"].detail
    assert (checks["power mode"].status == "ok") == ("MAXN" in checks["power mode"].detail.split(";")[0])
    assert "256 MiB" in checks["cma"].detail
    assert " W now" in checks["sensors"].detail
    assert not any(check.status == "wrong" for check in checks.values())


def test_another_machine_has_no_board(tmp_path: Path) -> None:
    """Guards against a doctor that speaks of Jetsons on a desk."""
    assert jetson_checks(tmp_path) == []
    assert Sensors(tmp_path).read().total_watts is None


def test_files_that_are_missing_are_said(tmp_path: Path) -> None:
    """Guards against a crash in a container, which sees the device tree and not the host's /etc."""
    root = make_tree(tmp_path, "orin-nano")
    for name in ("etc/nv_tegra_release", "var/lib/nvpmodel/status", "sys/class/hwmon/hwmon0/name"):
        (root / name).unlink()
    checks = {check.name: check for check in jetson_checks(root)}
    assert {name for name, check in checks.items() if check.status == "note"} >= {"jetpack", "power mode", "sensors"}


def test_sampler_adds_up_energy_and_notices_throttling(tmp_path: Path) -> None:
    """Guards against joules that are watts, and a board that slows down unnoticed."""
    root = make_tree(tmp_path, "orin-nano")
    with Sampler(Sensors(root), seconds=0.01) as calm:
        time.sleep(0.05)
    assert calm.joules == pytest.approx(4.968 * 1.304 * calm.elapsed)
    assert not calm.throttled
    with Sampler(Sensors(root), seconds=0.01) as hot:
        time.sleep(0.05)
        (root / "sys/class/hwmon/hwmon9/oc1_event_cnt").write_text("3\n")
        time.sleep(0.05)
    assert hot.throttled


def test_boards_rates_are_those_of_the_data_sheets() -> None:
    """Guards against sparse rates taken for dense ones, and a slip of a digit in the table."""
    sparse = {"orin-nano": 67, "orin-nano-4gb": 34, "agx-orin": 170, "agx-orin-32gb": 108, "orin-nx": 77}
    for name, tops in sparse.items():
        assert 2 * BOARDS[name].int8 / 1e12 == pytest.approx(tops, rel=0.03)
    assert 4 * BOARDS["thor"].int8 / 1e12 == pytest.approx(2070, rel=0.01)


def test_boards_are_told_apart_by_their_memory() -> None:
    """Guards against an 8 GB module that is planned for as the 4 GB one of its family."""
    for board in BOARDS.values():
        assert identify(f"NVIDIA {board.title} Developer Kit", int(board.memory * 0.94)) is board
    assert identify("Raspberry Pi 5", 8 << 30) is None
    with pytest.raises(MemoryLimitError, match="orin-nano-4gb"):
        find_board("nano")
