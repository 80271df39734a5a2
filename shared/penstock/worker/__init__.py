"""The worker runtime. Kept free of imports: the process of every run starts here."""
