"""Everything at once: real processes, a real Redis, a load that never stops, and faults at random from a seed.

``python -m tests.system.chaos --minutes 30 --seed 7``. Cycles of faults end in a calm, in which everything must recover by itself
within ten seconds; at the end :mod:`tests.system.history` judges all that was written down.
"""
