"""``python -m gmrt`` is the ``gmrt`` command."""

from __future__ import annotations

import sys

from gmrt.cli import main

sys.exit(main())
