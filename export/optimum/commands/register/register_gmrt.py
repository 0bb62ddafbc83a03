"""``optimum-cli export gmrt``: the same export as ``gmrt export``, for whoever works with optimum's command line.

optimum finds plug-ins as files in its namespace folder ``optimum/commands/register``, which packaging puts this file
into. It is imported at every start of optimum-cli, so nothing heavy is imported before the sub-command runs.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import get_args

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

from gmrt.runtime.manifest import Precision, Target


class GmrtExportCommand(BaseOptimumCLICommand):
    """Export a GeoRSMLLM checkpoint as a bundle."""

    COMMAND = CommandInfo(name="gmrt", help="Export a GeoRSMLLM checkpoint as a bundle for gmrt, proved equal to it.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the arguments; what they mean is said in docs/export.md."""
        parser.add_argument("checkpoint", help="The checkpoint's directory.")
        parser.add_argument("output", help="The bundle's directory, which a bundle may stand in already.")
        parser.add_argument("--precision", required=True, choices=get_args(Precision), help="How weights are kept.")
        parser.add_argument("--target", choices=get_args(Target), help="Where it will run; cuda for fp16, else cpu.")
        parser.add_argument("--calibration", help="Images to measure ranges on, or a record of them.")

    def run(self) -> None:
        """Write the bundle, print its path, and end the process as ``gmrt export`` does."""
        from tqdm import tqdm

        from gmrt.export.pipeline import export_bundle
        from gmrt.runtime.errors import GmrtError

        assert self.args is not None
        given = self.args
        try:
            with tqdm(total=1.0, desc="export", bar_format="{desc} {percentage:3.0f} %", leave=False) as bar:
                report = export_bundle(
                    given.checkpoint,
                    given.output,
                    precision=given.precision,
                    target=given.target,
                    calibration=given.calibration,
                    progress=lambda done, of: bar.update(done / of - bar.n) and None,
                )
        except GmrtError as error:
            sys.stderr.write(f"gmrt: {error}\n")
            sys.exit(error.exit_code)
        sys.stderr.write(f"top-1 agreement with the checkpoint: {report.top1:.2%} of {report.positions} tokens\n")
        sys.stdout.write(f"{given.output}\n")


REGISTER_COMMANDS = [(GmrtExportCommand, ExportCommand)]
