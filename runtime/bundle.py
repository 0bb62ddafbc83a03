"""Open a bundle: check everything that it promises, then read its small parts.

A bundle is untrusted input. Every file is hashed against the manifest before anything parses it; no path, link or
ONNX external-data location may leave the directory; nothing in it can run code (templates render in a sandbox, arrays
load without pickle).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
from tokenizers import Tokenizer

from gmrt.runtime.embeddings import TokenTable, open_table
from gmrt.runtime.errors import BundleError, BundleNotFoundError, ConstraintError
from gmrt.runtime.familiar import PIXEL_FEATURES, Familiarity, open_profiles
from gmrt.runtime.fields import MANIFEST_NAME
from gmrt.runtime.lexicon import Lexicon, read_lexicon, tag_tokens
from gmrt.runtime.locator import Locator, open_locator
from gmrt.runtime.manifest import FileEntry, Manifest, read_manifest
from gmrt.runtime.onnx_scan import external_locations
from gmrt.runtime.prompt import compile_template
from gmrt.runtime.scalar import Scalars, read_scalars
from gmrt.runtime.schema import Spelling, read_spelling
from gmrt.runtime.vocabulary import Ids, Vocabulary, open_vocabulary

_MAX_MANIFEST_BYTES = 16 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk: where it is, what it says, and its parts that need no session.

    ``familiar`` tells images that are unlike those calibrated on; None where the bundle brings no profile of them.
    ``scalars`` is what it can measure; None where it has no regression head. ``locator`` finds places; None where the
    decoder spells them. ``vocabulary`` says which words the head can give; None for all of them.
    """

    root: Path
    manifest: Manifest
    tokenizer: Tokenizer
    template: jinja2.Template
    table: TokenTable
    familiar: Familiarity | None = None
    scalars: Scalars | None = None
    locator: Locator | None = None
    vocabulary: Vocabulary | None = None

    def path(self, name: str) -> Path:
        """Where a file of the manifest lies."""
        return self.root / name

    def tokens(self, columns: Ids) -> Ids:
        """The token ids of columns of the logits."""
        return columns if self.vocabulary is None else self.vocabulary.ids[columns]

    @cached_property
    def lexicon(self) -> Lexicon:
        """How the tokenizer spells locations, read when the first one is answered; raises `ConstraintError`."""
        lexicon = read_lexicon(self.tokenizer)
        if self.vocabulary is not None and not self.vocabulary.holds(lexicon.tokens):
            raise ConstraintError("this bundle's head lacks words of locations: export it again, or ask without points")
        return lexicon

    @cached_property
    def spelling(self) -> Spelling:
        """The bytes of the tokenizer's tokens, read when the first schema is given; raises as `read_spelling` does."""
        return read_spelling(self.tokenizer, self.manifest.prompt.eos_token_ids, self.vocabulary)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Verify and open the bundle in the directory ``path``.

    Raises `BundleNotFoundError` when the directory, the manifest or a file is missing, `BundleError` for everything
    that is not as the manifest promises.
    """
    root = Path(path)
    manifest = verify(root)
    tokenizer = _read_tokenizer(root / manifest.tokenizer, manifest.vocab_size)
    try:
        source = (root / manifest.template).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{manifest.template}: not UTF-8 ({error}): export the bundle again") from None
    scale = manifest.embeddings.scale
    return Bundle(
        root=root,
        manifest=manifest,
        tokenizer=tokenizer,
        template=compile_template(source),
        table=open_table(
            root / manifest.embeddings.file,
            None if scale is None else root / scale,
            vocab_size=manifest.vocab_size,
            hidden_size=manifest.hidden_size,
        ),
        familiar=_open_familiar(root, manifest),
        scalars=read_scalars(
            tokenizer, () if manifest.heads is None else manifest.heads.measures, counts=manifest.locator is not None
        ),
        locator=_open_locator(root, manifest, tokenizer),
        vocabulary=None
        if manifest.vocabulary is None
        else open_vocabulary(
            root / manifest.vocabulary,
            columns=manifest.logits_size,
            size=manifest.vocab_size,
            needed=manifest.prompt.eos_token_ids,
        ),
    )


def _open_familiar(root: Path, manifest: Manifest) -> Familiarity | None:
    spec = manifest.familiar
    if spec is None:
        return None
    embeddings, pixels = (
        open_profiles(root / part.file, features=features, axes=part.axes, thresholds=part.thresholds)
        for part, features in ((spec.embeddings, manifest.hidden_size), (spec.pixels, PIXEL_FEATURES))
    )
    return Familiarity(embeddings, pixels)


def _open_locator(root: Path, manifest: Manifest, tokenizer: Tokenizer) -> Locator | None:
    if manifest.locator is None:
        return None
    if tag_tokens(tokenizer) is None:
        raise BundleError("the tokenizer has no tokens for regions, which a locator needs: export the bundle again")
    return open_locator(root / manifest.locator, manifest.hidden_size, manifest.places[0])


def verify(root: Path) -> Manifest:
    """Read the manifest in ``root`` and check every file against it: place, size, sha256, and external data."""
    if not root.is_dir():
        raise BundleNotFoundError(f"{root}: no bundle there: give the directory that holds {MANIFEST_NAME}")
    manifest = read_manifest(_read_json(root))
    for name, entry in manifest.files.items():
        _check_file(root, name, entry)
    for graph in (manifest.vision, manifest.decoder, manifest.heads):
        if graph is not None:
            _check_external_data(root, graph.file, manifest)
    return manifest


def _read_json(root: Path) -> object:
    file = _inside(root, MANIFEST_NAME)
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_NAME}: larger than {_MAX_MANIFEST_BYTES >> 20} MiB: not a manifest of gmrt")
    try:
        data: object = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST_NAME}: not readable as JSON ({error}): export the bundle again") from None
    return data


def _inside(root: Path, name: str) -> Path:
    """Return the path of a file of the bundle, when it is a regular file whose links, if any, stay inside."""
    file = root / name
    if not file.exists():
        raise BundleNotFoundError(f"{file}: this file of the bundle is missing: copy the bundle again")
    if not file.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{file}: a link that leaves the bundle: put the file itself in its place")
    if not stat.S_ISREG(file.stat().st_mode):
        raise BundleError(f"{file}: not a regular file: copy the bundle again")
    return file


def _check_file(root: Path, name: str, entry: FileEntry) -> None:
    file = _inside(root, name)
    size = file.stat().st_size
    if size != entry.bytes:
        raise BundleError(f"{file}: {size} bytes instead of {entry.bytes}: the file was altered, copy the bundle again")
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    if digest.hexdigest() != entry.sha256:
        raise BundleError(f"{file}: sha256 differs from {MANIFEST_NAME}: the file was altered, copy the bundle again")


def _check_external_data(root: Path, name: str, manifest: Manifest) -> None:
    """Refuse external data that is not a file of the manifest, beside the graph (ONNX resolves against its folder)."""
    folder = name.rpartition("/")[0]
    for location in external_locations(root / name):
        if (f"{folder}/{location}" if folder else location) not in manifest.files:
            raise BundleError(
                f"{root / name}: its external data {location[:80]!r} is not a file of this bundle: "
                "do not use this bundle unless you know who made it"
            )


def _read_tokenizer(file: Path, vocab_size: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the package raises plain Exception
        raise BundleError(f"{file.name}: not a tokenizer ({str(error)[:200]}): export the bundle again") from None
    count = tokenizer.get_vocab_size(with_added_tokens=True)
    if count > vocab_size:
        raise BundleError(f"{file.name}: {count} tokens and a table of {vocab_size}: export the bundle again")
    return tokenizer
