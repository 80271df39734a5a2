"""The bus: FastStream on Redis Streams with its rough edges solved once.

``connection`` opens clients (``pool`` and ``packing`` are what they consist of, ``roundtrip`` sends several commands at once),
``broker`` makes the FastStream broker, ``routing`` says which handler gets what, ``decoding`` turns entries into messages,
``delivery`` calls handlers with them,
``dead_letters`` keeps what cannot be handled, ``reclaim`` takes over what a dead consumer left, ``health`` tells the truth,
``watchdog`` brings back groups and subscribers that were lost,
``service`` runs it all until SIGTERM, ``requests`` sends a command and waits for its answer.
"""
