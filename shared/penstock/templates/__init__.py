"""Base job templates: what a pool lets its users choose, and what its workers are given.

Pure: no clock, no file, no network. Arguments are never changed, results never shared. Bad input of any kind is
:class:`penstock.errors.Invalid`, with the path and the rule of each problem, within bounded time:

==============================================  ==========================================
a template, or the values of one level          262,144 bytes as JSON, nested 64 deep
placeholders of a template                      1,000
what placeholders insert                        1,048,576 characters
schemas inside ``variables``                    1,000, nested 64 deep with their references
references                                      ``#/$defs/NAME``, ``#/definitions/NAME``, not recursive
patterns                                        20, of 500 characters each; no look-around, no back-references, so none
                                                can take more than time proportional to the text
work of one check                               300,000 steps
==============================================  ==========================================

* :mod:`~penstock.templates.check`: is this a template?
* :mod:`~penstock.templates.variables`: which values does a run have, and may it?
* :mod:`~penstock.templates.render`: what is the worker given?
* :mod:`~penstock.templates.types`: which worker types are there, and with which template does a pool of theirs begin?
"""

from __future__ import annotations

from penstock.templates.check import check, ensure
from penstock.templates.problems import Problem
from penstock.templates.render import job_configuration, render
from penstock.templates.types import WORKER_TYPES, WorkerTypeCard, default_template, worker_type
from penstock.templates.variables import check_deployment, check_run, defaults, ensure_deployment, merged, run_variables

__all__ = [
    "WORKER_TYPES",
    "Problem",
    "WorkerTypeCard",
    "check",
    "check_deployment",
    "check_run",
    "default_template",
    "defaults",
    "ensure",
    "ensure_deployment",
    "job_configuration",
    "merged",
    "render",
    "run_variables",
    "worker_type",
]
