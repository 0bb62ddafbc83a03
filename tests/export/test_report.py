"""The report of an export: complete, self-contained, and no part of the bundle."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gmrt.export.report import plot, sizes
from gmrt.runtime.bundle import open_bundle

Exports = Callable[[str, str], tuple[Path, Any]]


class Balanced(HTMLParser):
    """Notes tags that are not closed, and everything that would be fetched or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Push a tag."""
        self.foreign += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.foreign += [str(value) for name, value in attrs if name in ("src", "href") or name.startswith("on")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing stays open."""

    def handle_endtag(self, tag: str) -> None:
        """Pop a tag."""
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> Path:
    """An int8 bundle with its report."""
    return exports("tiny-llama", "int8")[0]


def test_page_needs_nothing_but_itself(bundle: Path) -> None:
    """Guards against a page that is broken, or that loads something from elsewhere."""
    page = (bundle / "report" / "report.html").read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.foreign == []
    assert "http" not in page
    for words in ("tiny-llama", "Error by layer", "connector.fc1", "GroupQueryAttention", "passed"):
        assert words in page
    assert str(bundle.parent) not in page


def test_report_says_what_the_manifest_says(bundle: Path) -> None:
    """Guards against two records that differ; the JSON holds all that the page shows."""
    record = json.loads((bundle / "report" / "report.json").read_text(encoding="utf-8"))
    manifest = open_bundle(bundle).manifest
    assert record["id"] == manifest.id
    assert record["parity"]["tensors"] == manifest.parity["tensors"]
    assert record["parity"]["kernels"] == manifest.parity["kernels"]
    assert sum(record["bytes"].values()) == sum(entry.bytes for entry in manifest.files.values())
    assert record["bytes"]["embeddings"] == sizes(manifest)["embeddings"] > 0
    assert [layer["layer"] for layer in record["tower_layers"]][-1] == "connector.fc2"
    assert all(layer["cosine"] > 0.95 for layer in record["tower_layers"])


def test_bundle_opens_without_its_report(bundle: Path, tmp_path: Path) -> None:
    """Guards against a report that a hash covers: it may be deleted."""
    copied = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    shutil.rmtree(copied / "report")
    assert open_bundle(copied).manifest.id == open_bundle(bundle).manifest.id


def test_plot_shows_losses_on_a_logarithmic_scale() -> None:
    """Guards against a plot on which nothing can be seen, and against names that are read as markup."""
    drawn = str(plot([("a", 1.0), ("b", 1e-7), ("<c>", 10**-3.5), ("d", float("nan"))]))
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', drawn)]
    assert heights == [260.0, 0.0, 130.0, 260.0]
    assert "&lt;c&gt;" in drawn
    assert "<c>" not in drawn
