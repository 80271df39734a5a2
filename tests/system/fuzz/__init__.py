"""Bad input of every kind, from a seed, into a real installation that works on meanwhile (promise 8).

``python -m tests.system.fuzz --entries 100000 --inputs 10000 --seed 7``. Entries go to every stream somebody reads and are judged
by :mod:`tests.system.fuzz.oracle`, inputs go through the command line. Whatever is bad must be refused with a reason or lie in
``dead``; good runs submitted all the time must all complete exactly once; no process may go down.
"""
