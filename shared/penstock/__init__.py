"""Penstock: work pools and workers on a message broker.

Kept free of imports: every run of a process worker starts an interpreter that imports this package first.
"""

__version__ = "0.1.0"
