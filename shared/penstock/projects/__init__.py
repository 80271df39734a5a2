"""Projects: what a flow author has in a directory, made into deployments.

* :mod:`~penstock.projects.documents`: YAML as plain data, safe and bounded, every value with its line;
* :mod:`~penstock.projects.placeholders`: environment variables in such data;
* :mod:`~penstock.projects.sections`: one mapping of a project file, its keys and their kinds;
* :mod:`~penstock.projects.files`: ``penstock.yaml`` and ``prefect.yaml`` as drafts;
* :mod:`~penstock.projects.timing`: schedules as they are written in files and options;
* :mod:`~penstock.projects.drafts`: what somebody wants deployed, before anybody has looked at the code;
* :mod:`~penstock.projects.sources`: a file of Python as far as it can be understood without running it;
* :mod:`~penstock.projects.inspection`: an entrypoint looked at by a process of its own, which runs ``signature_process.py``;
* :mod:`~penstock.projects.fitting`: parameters against what a function takes;
* :mod:`~penstock.projects.preparation`: a draft and what was found, checked and made into a definition;
* :mod:`~penstock.projects.sending`: definitions into an installation, all or none;
* :mod:`~penstock.projects.changes`: what deploying again has changed, in words.
"""
