"""What the boards are expected to do, on paper: the tables of docs/jetson.md. Nothing here is measured."""

from __future__ import annotations

from gmrt.runtime.boards import BOARDS
from gmrt.runtime.projection import PUBLISHED, WORKLOADS, project


def main() -> None:
    """Print a row for each model and board, then NVIDIA's rows."""
    print("| model | board | tower, ms | prefill, ms | first token, ms | decode, tok/s |")
    print("|---|---|---|---|---|---|")
    for load in WORKLOADS.values():
        for board in BOARDS.values():
            expected = project(load, board)
            times = f"{expected.tower_ms:.1f} | {expected.prefill_ms:.1f} | {expected.first_token_ms:.1f}"
            print(f"| {load.name} | {board.name} | {times} | {expected.decode:.0f} |")
    print()
    print("| published, model | board | tower, ms | prefill, ms (tokens) | decode, tok/s |")
    print("|---|---|---|---|---|")
    for row in PUBLISHED:
        tower = "" if row.tower_ms is None else row.tower_ms
        print(f"| {row.model} | {row.board} | {tower} | {row.prefill_ms} ({row.tokens}) | {row.decode} |")


if __name__ == "__main__":
    main()
