"""The field: a bundle, an image and words in; text and places out. No torch, no transformers, no network.

``bundle`` and ``manifest`` open what was exported, ``scene`` reads images, ``image`` and ``prompt`` turn both into
numbers (training imports these two and ``points``, so that desk and field agree), ``backends`` run the graphs over a
``cache``, ``generate`` yields tokens, and ``model`` is the way in: ``gmrt.load``.
"""
