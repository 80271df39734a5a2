"""Who may do what in Redis, as data and as Redis spells it.

* :mod:`~penstock.access.state`: who writes and who reads each family of keys that is no channel;
* :mod:`~penstock.access.grants`: what each party may do: commands on families of keys;
* :mod:`~penstock.access.acl`: the same as lines of a Redis ACL file;
* :mod:`~penstock.access.passwords`: passwords kept one to a file.

``penstock acl`` prints the ACL file. Pure but for the passwords: nothing here touches Redis.
"""
