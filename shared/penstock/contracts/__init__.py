"""The messages, one module per noun; nothing else.

The catalogue maps the ``type`` of every message to its model and says on which stream it travels, from whom to whom.
"""
