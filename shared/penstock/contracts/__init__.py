"""The messages, one module per noun; nothing else.

``MESSAGES`` maps the ``type`` of every message to its model; streams say who sends which.
"""
